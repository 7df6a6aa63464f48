// Sums of products of bf16 for processors without an instruction for pairs of them: floats that
// hold bf16, the columns of a pair in the order in which that instruction adds them, odd before
// even. So all give the same bits, but for numbers below 2^-126, which the instruction takes for
// zero.
#pragma once

namespace nibble::NIBBLE_ISA {

/// What fp16 can hold, as bf16, to nearest even: beside 1.5 * 2^16 of its own powers of two there
/// is room for the 8 bits that stay. A zero loses its sign, which no sum shows.
NIBBLE_INLINE F round_bf16(F x) {
  const F power = min(power_of_two(x), splat(0x1p16f));  // infinity stays one, and so does a NaN
  return fma(power, splat(-0x1.8p16f), fma(power, splat(0x1.8p16f), x));
}

struct StepBf16 {
  static constexpr int kColumns = 1;
  template <class Panel>
  NIBBLE_METHOD static F weights(const Panel& panel, int64_t j) {
    const F w = panel.column(j ^ 1);
    return Panel::kBf16 ? w : round_bf16(w);
  }
  NIBBLE_METHOD static F add(F w, float x, F sum) { return fma(w, splat(x), sum); }

  static void inputs(const float* x, float* out, int64_t n) {
    for (int64_t i = 0; i < n; ++i) {
      uint32_t bits;
      memcpy(&bits, x + i, sizeof bits);
      const uint32_t rounded = (bits + 0x7fffu + (bits >> 16 & 1)) & 0xffff0000u;
      const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
      bits = nan ? (bits & 0xffff0000u) | 0x400000u : rounded;
      memcpy(out + (i ^ 1), &bits, sizeof bits);
    }
  }
};

}  // namespace nibble::NIBBLE_ISA
