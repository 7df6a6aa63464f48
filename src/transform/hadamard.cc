// Rotation inside heads, after QuIP# (Tseng et al. 2024) and QuaRot (Ashkboos et al. 2024): values
// of a head times a Hadamard matrix with random signs, which the output projection undoes. Outliers
// of single channels spread over all of the head.
#include <bit>
#include <cmath>
#include <random>

#include "transform/transform.h"

namespace nibble {
namespace {

class Hadamard final : public Transform {
  std::string_view id() const override { return "hadamard"; }
  bool scales_folds() const override { return false; }

  /// Sylvester's matrix, orthonormal; where the width is no power of two, of its largest factor
  /// that is one, along the diagonal.
  std::vector<float> turn(std::uint32_t width) const override {
    const std::uint32_t size = 1u << std::countr_zero(width);
    std::mt19937 random(1);
    std::vector<float> out(std::size_t(width) * width);
    for (std::uint32_t k = 0; k < width; ++k) {
      const float value = float((random() & 1 ? 1 : -1) / std::sqrt(double(size)));
      for (std::uint32_t i = k / size * size; i < k / size * size + size; ++i)
        out[std::size_t(i) * width + k] = std::popcount(i & k & (size - 1)) % 2 ? -value : value;
    }
    return out;
  }
};

}  // namespace

namespace registry {
const Transform& transform_hadamard() {
  static const Hadamard transform;
  return transform;
}
}  // namespace registry
}  // namespace nibble
