// Groups of symmetric 4-bit integers, as GPTQ checkpoints (sym) and compressed-tensors have them.
// fp16 scale d, then the codes, the even column of a pair in the low half. value = d * (code - 8).
#pragma once

#include "format/bits.h"
#include "format/format.h"
#include "format/levels.h"

namespace nibble {

template <int kGroupSize>
class Int4 final : public Format {
 public:
  explicit Int4(std::string_view id)
      : Format(
            {.id = id,
             .block = kGroupSize,
             .grain = 1,
             .bytes = 2 + kGroupSize / 2,
             .ggml_type = -1,
             .ggml_name = {},
             .layout = {.scales = Layout::Scales::single, .sub = kGroupSize, .levels = kLevels}}) {}

  void pack(const Grid& grid, const Code* codes, std::byte* out) const override {
    put_fp16(out, grid.d);
    put_fields<4, 1>(codes, kGroupSize, out + 2);
  }

  void unpack(const std::byte* in, Grid& grid, Code* codes) const override {
    grid.d = get_fp16(in);
    get_fields<4, 1>(in + 2, kGroupSize, codes);
    make_effective(grid);
  }

 private:
  static constexpr auto kLevels = consecutive_levels<-8, 16>();
};

}  // namespace nibble
