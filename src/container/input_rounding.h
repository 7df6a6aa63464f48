// How the inputs of a linear layer are rounded, where a checkpoint says that they are.
#pragma once

#include <cstdint>

namespace nibble {

/// Every value x of a token becomes scale * (the point of a grid nearest to x / scale).
struct InputRounding {
  enum class Kind : std::uint8_t {
    none,
    int8,      // -128 ... 127; the scale takes the largest of a token to 127.5
    fp8,       // E4M3; to 448, of the token or of `group` columns
    fp4,       // E2M1 in groups of 16 columns; to 6, but the scale is E4M3 / `scale`
    llm_int8,  // -127 ... 127, of the token in fp16; to 127, outliers left out (see threshold)
  };
  Kind kind = Kind::none;
  /// int8, fp8: the scale of all tokens; 0: each token has its own. fp4: above 0.
  float scale = 0;
  /// fp8: columns that share a scale of their own; 0: all of the token.
  std::uint32_t group = 0;
  /// llm_int8: columns where a token reaches it stay as they are in all tokens; 0: none do.
  float threshold = 0;

  bool operator==(const InputRounding&) const = default;
};

}  // namespace nibble
