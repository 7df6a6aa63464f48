// WHICH values a block of weights can hold, and in what bytes.
//
// A format describes; it does not search. Scales and codes are chosen in round/, bytes go into
// files in container/, products are computed in kernel/. Every quantized format here has one shape:
// a block of `block` consecutive columns of one row is cut into sub-blocks of `sub` columns, and
// each weight becomes
//
//     value = scale[s] * level + offset[s]          (s: its sub-block; level: a number that its
//     code names, nearly always a small integer)
//
// computed in float32 without fused operations, in just that order, so that it equals what the
// runtimes compute.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "format/codebook.h"

namespace nibble {

/// Names one of the values that a column can hold inside its grid (or, with grain > 1, a group of
/// columns).
using Code = std::uint32_t;

inline constexpr int kMaxSubBlocks = 16;
inline constexpr int kMaxBlock = 256;

/// The scales of one block, exactly as its bytes hold them, and the effective ones that follow from
/// them.
struct Grid {
  float d = 0;     // super-scale (or the only scale), a value that its stored type holds exactly
  float dmin = 0;  // super-scale of the offsets (or the only offset, or the zero point)
  std::array<std::int16_t, kMaxSubBlocks>
      sub_scale{};  // integer factors of d, where the format has them
  std::array<std::int16_t, kMaxSubBlocks> sub_min{};  // integer factors of dmin
  std::array<float, kMaxSubBlocks> scale{};           // effective: what multiplies a level
  std::array<float, kMaxSubBlocks> offset{};          // effective: what is added (-0.0 if nothing)
};

/// How a format stores the scales of a block, for the searches in round/.
struct Layout {
  enum class Scales {
    none,    // the code is the value itself (f32, f16, bf16)
    single,  // one scale d a block (and one offset dmin where has_offset): scale = d, offset = dmin
    nested,  // fp16 d (and dmin) times small integers a sub-block: scale = d * sub_scale * unit,
             // offset = -dmin * sub_min
  };
  // power: of two, 2^-128 .. 2^127; e4m3: an 8-bit float over 1024
  enum class Number { fp16, bf16, f32, power, e4m3 };
  Scales scales = Scales::none;
  Number number = Number::fp16;  // how d and dmin are stored
  int sub = 1;                   // columns that share an effective scale
  bool has_offset = false;
  int scale_min = 0,
      scale_max = 0;        // range of sub_scale (nested); q3_k, iq4_xs and q6_k have signed ones
  int scale_step = 1;       // sub_scale is scale_min plus a multiple of it
  float unit = 1;           // a power of two (nested)
  int offset_max = 0;       // sub_min ranges over 0..offset_max (nested, has_offset)
  bool zero_point = false;  // dmin is an integer in the range of the levels: offset = -(d * dmin)
  bool whole_row = false;   // all blocks of a row have the same d and dmin
  std::span<const std::int8_t> levels = {};  // what a column can have, ascending; code = index,
                                             // unless there is a codebook
  std::span<const float> values = {};        // the same where they are no small integers
  int first_code = 0;                        // codes below it are decoded, but never chosen
  const Codebook* codebook = nullptr;        // groups of columns have codes, not columns
};

class Format {
 public:
  struct Spec {
    std::string_view id;         // "q4_k", as in recipes and overrides
    int block;                   // columns a block
    int grain;                   // columns coded jointly (1: each for itself, or kGroup)
    std::size_t bytes;           // bytes a block
    int ggml_type;               // its number in GGUF files, -1 if it has none
    std::string_view ggml_name;  // "Q4_K"
    Layout layout;
  };

  explicit Format(const Spec& spec);
  virtual ~Format() = default;
  Format(const Format&) = delete;
  Format& operator=(const Format&) = delete;

  const Spec& spec() const { return spec_; }
  std::string_view id() const { return spec_.id; }
  int block() const { return spec_.block; }
  const Layout& layout() const { return spec_.layout; }
  double bits_per_weight() const { return 8.0 * double(spec_.bytes) / spec_.block; }
  /// Columns must be a multiple of block().
  std::size_t row_bytes(std::size_t columns) const {
    return columns / std::size_t(spec_.block) * spec_.bytes;
  }

  /// Fills the effective scales of a grid from its stored fields (d, dmin, sub_scale, sub_min).
  void make_effective(Grid& grid) const;

  /// The nearest code (of `grain` columns at column `pos` of the block) to x[0..grain). Ties go to
  /// the lower code. A NaN gets the first code (a NaN where the format has one). Codebooks whose
  /// banks are wider than a group: each group has the bank that suits it.
  virtual Code round(const Grid& grid, int pos, const float* x) const;
  /// What the runtime will see for `code` at column `pos`: out[0..grain).
  virtual void value(const Grid& grid, int pos, Code code, float* out) const;
  /// What the codes of a column stand for, ascending. Empty where there is a codebook or no scale.
  std::span<const float> level_values() const { return level_values_; }
  /// The integer levels of all columns of a block. Only where layout().levels are not empty.
  virtual void levels(const Grid& grid, const Code* codes, std::int8_t* out) const;

  /// Bytes of a block. `codes` has block()/grain entries. The grid's stored fields are used.
  virtual void pack(const Grid& grid, const Code* codes, std::byte* out) const = 0;
  /// The inverse for every possible content of the bytes; fills stored and effective fields.
  virtual void unpack(const std::byte* in, Grid& grid, Code* codes) const = 0;
  /// The same but for effective fields, with codes of a byte each: those of columns that have codes
  /// of their own and scales. Others have none.
  virtual void unpack_bytes(const std::byte* in, Grid& grid, std::uint8_t* codes) const;

  /// The nearest values of `blocks` consecutive blocks. Only where layout().scales is none.
  virtual void encode(const float* in, std::size_t blocks, std::byte* out) const;
  /// Decodes `blocks` consecutive blocks to float32. Formats without levels override it.
  virtual void decode(const std::byte* in, std::size_t blocks, float* out) const;

 private:
  Spec spec_;
  std::vector<float> level_values_;
  bool consecutive_;  // level = levels[0] + code
};

/// Stored column j is column order[j] of a matrix; null: they are in order (GPTQ's act-order is the
/// reason for others).
using ColumnOrder = std::shared_ptr<const std::vector<std::uint32_t>>;

/// Formats that differ in numbers (bits, columns a group, ...) and are made when they are asked
/// for.
class FormatFamily {
 public:
  virtual ~FormatFamily() = default;
  /// nullptr if `id` is none of its members.
  virtual std::unique_ptr<Format> make(std::string_view id) const = 0;
  /// Members that differ in as much as members can, for whoever loops over all formats.
  virtual std::span<const std::string_view> samples() const = 0;
};
std::span<const FormatFamily* const> family_registry();

/// The formats that are registered one by one, in the order of their nibble_register lines.
std::span<const Format* const> format_registry();
/// These and the samples of every family.
std::vector<const Format*> all_formats();
/// nullptr if there is none of that name (ids are lower case: "q4_k"). Thread-safe; a format lives
/// as long as the program.
const Format* find_format(std::string_view id);
const Format* find_format_by_ggml_type(int type);

}  // namespace nibble
