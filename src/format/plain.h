// Formats whose code is the value itself.
#pragma once

#include <bit>

#include "format/bits.h"
#include "format/format.h"

namespace nibble {

/// `Bits` is the unsigned integer that is stored (little-endian); the two functions convert.
template <class Bits, float (*to_float)(Bits), Bits (*from_float)(float)>
class PlainFormat final : public Format {
 public:
  PlainFormat(std::string_view id, int ggml_type, std::string_view ggml_name)
      : Format({.id = id,
                .block = 1,
                .grain = 1,
                .bytes = sizeof(Bits),
                .ggml_type = ggml_type,
                .ggml_name = ggml_name,
                .layout = {}}) {}

  Code round(const Grid&, int, const float* x) const override { return from_float(x[0]); }
  void value(const Grid&, int, Code code, float* out) const override {
    out[0] = to_float(Bits(code));
  }
  void pack(const Grid&, const Code* codes, std::byte* out) const override {
    store(Bits(codes[0]), out);
  }
  void unpack(const std::byte* in, Grid&, Code* codes) const override { codes[0] = load(in); }
  void encode(const float* in, std::size_t blocks, std::byte* out) const override {
    for (std::size_t i = 0; i < blocks; ++i) store(from_float(in[i]), out + i * sizeof(Bits));
  }
  void decode(const std::byte* in, std::size_t blocks, float* out) const override {
    decode_all(in, blocks, out);
  }

 private:
  static_assert(std::endian::native == std::endian::little);
  static void store(Bits bits, std::byte* out) { std::memcpy(out, &bits, sizeof bits); }
  static Bits load(const std::byte* in) {
    Bits bits;
    std::memcpy(&bits, in, sizeof bits);
    return bits;
  }
  NIBBLE_CLONES static void decode_all(const std::byte* in, std::size_t count, float* out) {
    for (std::size_t i = 0; i < count; ++i) out[i] = to_float(load(in + i * sizeof(Bits)));
  }
};

}  // namespace nibble
