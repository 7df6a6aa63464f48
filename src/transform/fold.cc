// Norm folding: the weight of a norm goes into the matrices behind it and becomes 1. Blocks of
// columns then have the sizes that the network really uses.
#include "transform/transform.h"

namespace nibble {
namespace {

class Fold final : public Transform {
  std::string_view id() const override { return "fold"; }

  Result<std::vector<float>> scales(const FoldTask& task, ThreadPool&) const override {
    std::vector<float> out = task.from;
    for (float& scale : out)
      if (scale == 0) scale = 1;  // a dead channel
    return out;
  }
};

}  // namespace

namespace registry {
const Transform& transform_fold() {
  static const Fold transform;
  return transform;
}
}  // namespace registry
}  // namespace nibble
