// Integers of 2, 3, 4 or 8 bits in groups with one scale, as GPTQ, AWQ, compressed-tensors and MLX
// checkpoints have them. A name says it all:
//
//     int4_g128            groups of 128 columns (32, 64 or 128), fp16 scale d: value = d * level,
//                          level in -2^(bits-1) .. 2^(bits-1) - 1
//     int4_g128_zp         and a zero point z, an integer of as many bits: value = d * (level - z)
//     int4_g128_min        and the value m of level 0 ("bias"): value = d * level + m; levels of
//     less
//                          than 8 bits begin at 0
//     int8_row             one scale for all columns of a row
//     int8_row_bf16, _f32  the scale (and m) in another type
//
// Bytes of a block: d, then z (i8) or m (as d), then the codes, a stream of bits, low bits first,
// rounded up to bytes. A row with one scale is blocks of 32 that repeat it. These bytes are
// nibble's own: containers know what other programs make of them.
#include <array>
#include <charconv>
#include <string>

#include "format/bits.h"
#include "format/columns.h"
#include "format/levels.h"

namespace nibble {
namespace {

constexpr int kRowBlock = 32;
constexpr auto kLevels2 = consecutive_levels<-2, 4>();
constexpr auto kLevels3 = consecutive_levels<-4, 8>();
constexpr auto kLevels4 = consecutive_levels<-8, 16>();
constexpr auto kLevels8 = consecutive_levels<-128, 256>();
constexpr auto kFromZero = consecutive_levels<0, 16>();

/// `from_zero`: where there is an offset, the first level is 0; but for bytes, that have a sign.
std::span<const std::int8_t> levels_of(int bits, bool from_zero) {
  if (from_zero && bits < 8) return std::span(kFromZero).first(std::size_t(1) << bits);
  switch (bits) {
    case 2:
      return kLevels2;
    case 3:
      return kLevels3;
    case 4:
      return kLevels4;
    default:
      return kLevels8;
  }
}

struct Member {
  enum class Offset { none, zero_point, min };
  int bits = 0, group = 0;
  bool row = false;
  Offset offset = Offset::none;
  Layout::Number number = Layout::Number::fp16;

  std::size_t number_bytes() const { return number == Layout::Number::f32 ? 4 : 2; }
  std::size_t offset_bytes() const {
    return offset == Offset::none ? 0 : offset == Offset::min ? number_bytes() : 1;
  }
  std::size_t bytes() const {
    return number_bytes() + offset_bytes() + std::size_t(bits * group + 7) / 8;
  }
};

/// Takes `word` from the front of `text` if it is there.
bool take(std::string_view& text, std::string_view word) {
  if (!text.starts_with(word)) return false;
  text.remove_prefix(word.size());
  return true;
}

/// Takes one of the numbers in front; 0: none.
int take_number(std::string_view& text, std::initializer_list<int> allowed) {
  int number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || text.starts_with('0')) return 0;
  text.remove_prefix(std::size_t(end - text.data()));
  for (const int each : allowed)
    if (each == number) return number;
  return 0;
}

/// A group of 0: not a member.
Member parse(std::string_view id) {
  Member m;
  if (!take(id, "int") || !(m.bits = take_number(id, {2, 3, 4, 8}))) return {};
  m.row = take(id, "_row");
  const int group = m.row ? kRowBlock : take(id, "_g") ? take_number(id, {32, 64, 128}) : 0;
  if (take(id, "_zp"))
    m.offset = Member::Offset::zero_point;
  else if (!m.row && take(id, "_min"))
    m.offset = Member::Offset::min;
  if (take(id, "_bf16"))
    m.number = Layout::Number::bf16;
  else if (take(id, "_f32"))
    m.number = Layout::Number::f32;
  m.group = id.empty() ? group : 0;
  return m;
}

struct Name {
  std::string text;  // outlives the Format that refers to it
};

class Affine final : private Name, public ColumnFormat<Affine> {
 public:
  Affine(std::string_view id, const Member& m)
      : Name{std::string(id)},
        ColumnFormat({.id = text,
                      .block = m.group,
                      .grain = 1,
                      .bytes = m.bytes(),
                      .ggml_type = -1,
                      .ggml_name = {},
                      .layout = {.scales = Layout::Scales::single,
                                 .number = m.number,
                                 .sub = m.group,
                                 .has_offset = m.offset != Member::Offset::none,
                                 .zero_point = m.offset == Member::Offset::zero_point,
                                 .whole_row = m.row,
                                 .levels = levels_of(m.bits, m.offset == Member::Offset::min)}}),
        member_(m) {}

  void pack(const Grid& grid, const Code* codes, std::byte* out) const override {
    out = put_number(out, grid.d);
    if (member_.offset == Member::Offset::zero_point)
      *out++ = std::byte(std::int8_t(grid.dmin));
    else if (member_.offset == Member::Offset::min)
      out = put_number(out, grid.dmin);
    std::uint32_t bits = 0;
    int count = 0;
    for (int i = 0; i < member_.group; ++i) {
      bits |= codes[i] << count;
      for (count += member_.bits; count >= 8; count -= 8, bits >>= 8)
        *out++ = std::byte(bits & 255);
    }
  }

  template <class Item>
  void read(const std::byte* in, Grid& grid, Item* codes) const {
    grid.d = get_number(in);
    if (member_.offset == Member::Offset::zero_point)
      grid.dmin = float(std::int8_t(*in++));
    else if (member_.offset == Member::Offset::min)
      grid.dmin = get_number(in);
    std::uint32_t bits = 0;
    int count = 0;
    for (int i = 0; i < member_.group; ++i) {
      if (count < member_.bits) bits |= std::uint32_t(get_u8(in++)) << count, count += 8;
      codes[i] = Item(bits & ((1u << member_.bits) - 1));
      bits >>= member_.bits, count -= member_.bits;
    }
  }

 private:
  std::byte* put_number(std::byte* out, float x) const {
    if (member_.number == Layout::Number::f32)
      put_f32(out, x);
    else
      put_u16(out, member_.number == Layout::Number::bf16 ? f32_to_bf16(x) : f32_to_fp16(x));
    return out + member_.number_bytes();
  }

  float get_number(const std::byte*& in) const {
    const std::byte* at = in;
    in += member_.number_bytes();
    if (member_.number == Layout::Number::f32) return get_f32(at);
    return member_.number == Layout::Number::bf16 ? bf16_to_f32(get_u16(at)) : get_fp16(at);
  }

  Member member_;
};

class Family final : public FormatFamily {
  std::unique_ptr<Format> make(std::string_view id) const override {
    const Member member = parse(id);
    return member.group > 0 ? std::make_unique<Affine>(id, member) : nullptr;
  }

  std::span<const std::string_view> samples() const override {
    static constexpr std::string_view kSamples[] = {
        "int4_g128",   "int4_g64",         "int4_g32",      "int2_g32",
        "int3_g128",   "int8_g128",        "int4_g128_zp",  "int3_g32_zp",
        "int2_g64_zp", "int8_g64_zp",      "int4_g64_min",  "int8_g64_min_f32",
        "int4_row",    "int4_g64_zp_bf16", "int8_row_bf16", "int8_row_zp_f32"};
    return kSamples;
  }
};

}  // namespace

namespace registry {
const FormatFamily& family_affine() {
  static const Family family;
  return family;
}
}  // namespace registry
}  // namespace nibble
