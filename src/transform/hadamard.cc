// Rotation inside heads, after QuIP# (Tseng et al. 2024) and QuaRot (Ashkboos et al. 2024): values
// of a head times a Hadamard matrix with random signs, which the output projection undoes. Outliers
// of single channels spread over all of the head.
#include "transform/transform.h"

namespace nibble {
namespace {

class Hadamard final : public Transform {
  std::string_view id() const override { return "hadamard"; }
  std::optional<Channels> turns() const override { return Channels::values; }
};

}  // namespace

namespace registry {
const Transform& transform_hadamard() {
  static const Hadamard transform;
  return transform;
}
}  // namespace registry
}  // namespace nibble
