// Dot products of bytes for x86 processors without VNNI: pairs of products are added in 16 bits,
// which saturate, so how often depends on the largest code. On Registers of bytes, kRegisters of
// them for 16 rows x 4 columns.
#pragma once

namespace nibble::NIBBLE_ISA {

/// A group of 4 columns at a time.
struct DotBytes {
  using Input = int8_t;
  static constexpr int kShift = 0, kSteps = 2, kTokens = kByteTile;
  static const Input* inputs(const int8_t* codes, int64_t, void*) { return codes; }
  NIBBLE_METHOD static Codes operand(int step, const Codes& c0, const Codes& c1) {
    return step == 0 ? c0 : c1;
  }
  Register sum[kRegisters];
  NIBBLE_METHOD void start(int32_t) {
    for (Register& each : sum) each = zero_register();
  }
  NIBBLE_METHOD void settle() {}
  NIBBLE_METHOD I total(int32_t lacks) const { return add_int(ints(sum), splat_int(lacks)); }
};

/// Codes up to 15: eight pairs of products, at most 8 * 2 * 15 * 128 = 30720, fit 16 bits, so a
/// sub-block of 32 columns is widened only once.
struct DotSmall : DotBytes {
  Register settled[kRegisters];
  NIBBLE_METHOD void start(int32_t lacks) {
    DotBytes::start(lacks);
    for (Register& each : settled) each = zero_register();
  }
  NIBBLE_METHOD void add(const Codes& c, const uint8_t* x, int64_t) {
    const Register x4 = splat4(x);
    for (int i = 0; i < kRegisters; ++i)
      sum[i] = add16(sum[i], multiply_bytes(c.v[i], x4)), finish(sum[i]);
  }
  NIBBLE_METHOD void settle() {
    for (int i = 0; i < kRegisters; ++i) {
      settled[i] = add32(settled[i], multiply16(sum[i], splat16(1)));
      sum[i] = zero_register();
    }
  }
  NIBBLE_METHOD I total(int32_t lacks) {
    settle();
    return add_int(ints(settled), splat_int(lacks));
  }
};

/// Codes up to 63: two pairs, at most 2 * 2 * 63 * 128 = 32256, fit 16 bits.
struct DotMedium : DotBytes {
  static constexpr int kSteps = 1, kTokens = kPairTile;
  struct Pair {
    Codes c0, c1;
  };
  NIBBLE_METHOD static Pair operand(int, const Codes& c0, const Codes& c1) { return {c0, c1}; }
  NIBBLE_METHOD void add(const Pair& p, const uint8_t* x, int64_t next) {
    const Register x0 = splat4(x), x1 = splat4(x + next);
    for (int i = 0; i < kRegisters; ++i) {
      const Register pairs = add16(multiply_bytes(p.c0.v[i], x0), multiply_bytes(p.c1.v[i], x1));
      sum[i] = add32(sum[i], multiply16(pairs, splat16(1))), finish(sum[i]);
    }
  }
};

/// Codes up to 127: a pair of products, at most 2 * 127 * 128 = 32512, fits 16 bits.
struct DotLarge : DotBytes {
  NIBBLE_METHOD void add(const Codes& c, const uint8_t* x, int64_t) {
    const Register x4 = splat4(x);
    for (int i = 0; i < kRegisters; ++i) {
      sum[i] = add32(sum[i], multiply16(multiply_bytes(c.v[i], x4), splat16(1)));
      finish(sum[i]);
    }
  }
};

/// Codes up to 255 would overflow 16 bits, so even and odd columns are widened and multiplied as 16
/// bits; inputs are widened beforehand, in the order x0 x2 x1 x3 that this needs.
struct DotWide : DotBytes {
  using Input = int16_t;
  static constexpr int kSteps = 4, kTokens = kWideTile;
  static const Input* inputs(const int8_t* codes, int64_t n, void* scratch) {
    auto* out = static_cast<int16_t*>(scratch);
    for (int64_t i = 0; i < n; ++i) out[i / 4 * 4 + i % 2 * 2 + i / 2 % 2] = codes[i];
    return out;
  }
  NIBBLE_METHOD static Codes operand(int step, const Codes& c0, const Codes& c1) {
    Codes c = step < 2 ? c0 : c1;
    for (auto& each : c.v) each = step % 2 == 0 ? low_bytes(each) : high_bytes(each);
    return c;
  }
  NIBBLE_METHOD void add(const Codes& c, const uint8_t* x, int64_t) {
    const Register x2 = splat4(x);
    for (int i = 0; i < kRegisters; ++i)
      sum[i] = add32(sum[i], multiply16(c.v[i], x2)), finish(sum[i]);
  }
};

/// Scaled codes would need DotWide, which costs more than the scaling of sums that they save.
inline constexpr bool kScalesCodes = false;
struct CodeScale {
  CodeScale(I scale, int32_t bias, int32_t least);
  Codes of(const Codes& c) const;
};

}  // namespace nibble::NIBBLE_ISA
