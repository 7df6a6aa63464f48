// Rotation of the residual stream, after QuaRot (Ashkboos et al. 2024): what the embedding and all
// blocks write is turned by one matrix, and turned back by all that reads it. Few channels of the
// stream are far larger than the rest; turned, all are about as large.
#include "transform/transform.h"

namespace nibble {
namespace {

class Rotate final : public Transform {
  std::string_view id() const override { return "rotate"; }
  std::optional<Channels> turns() const override { return Channels::residual; }
};

}  // namespace

namespace registry {
const Transform& transform_rotate() {
  static const Rotate transform;
  return transform;
}
}  // namespace registry
}  // namespace nibble
