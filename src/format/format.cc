#include "format/format.h"

#include <cmath>
#include <deque>
#include <mutex>
#include <string>
#include <utility>

#include "base/clones.h"
#include "base/result.h"
#include "format/levels.h"

namespace nibble {

Format::Format(const Spec& spec) : spec_(spec) {
  const auto& l = spec.layout.levels;
  consecutive_ = consecutive(l);
  level_values_.assign(l.begin(), l.end());
  if (l.empty()) level_values_.assign(spec.layout.values.begin(), spec.layout.values.end());
}

void Format::make_effective(Grid& grid) const {
  const Layout& l = layout();
  const int subs = l.scales == Layout::Scales::none ? 0 : block() / l.sub;
  for (int s = 0; s < subs; ++s) {
    const bool nested = l.scales == Layout::Scales::nested;
    grid.scale[s] = nested ? grid.d * float(grid.sub_scale[s]) * l.unit : grid.d;
    grid.offset[s] = !l.has_offset  ? -0.0f
                     : nested       ? -(grid.dmin * float(grid.sub_min[s]))
                     : l.zero_point ? -(grid.d * grid.dmin)
                                    : grid.dmin;
  }
}

namespace {

/// The squared error of one point at the columns from `begin` on; larger than `least` if it is.
float point_error(const Codebook& book, Code number, Code signs, int begin, float scale,
                  const float* x, float least) {
  const std::size_t count = book.points.size();
  const unsigned mask = (1u << book.digit_bits) - 1;
  const std::int8_t* values = book.values.data() + number / count * std::size_t(book.digits());
  unsigned digits = book.points[number % count];
  float error = 0;
  for (int i = begin; i < begin + book.width && error <= least; ++i, digits >>= book.digit_bits) {
    const float size = float(values[digits & mask]);
    const float r = x[i] - scale * (signs >> (24 + i) & 1 ? -size : size);
    error += r * r;
  }
  return error;
}

/// The nearest points to x / scale with the signs given: the code, and its squared error.
std::pair<Code, float> nearest_points(const Codebook& book, float scale, const float* x,
                                      Code signs) {
  std::pair<Code, float> found{signs, 0.0f};
  for (int begin = 0; begin < kGroup; begin += book.width) {
    Code best = 0;
    float least = INFINITY;
    for (Code number = 0; number < Code(book.codes_a_point()); ++number) {
      const float error = point_error(book, number, signs, begin, scale, x, least);
      if (error < least) least = error, best = number << (12 * (begin / book.width));
    }
    found.first |= best, found.second += least;
  }
  return found;
}

/// With a positive scale a column is best on its own side of zero. Where the number of negative
/// ones must be even, the one that changes sides may be any.
Code nearest_group(const Codebook& book, float scale, const float* x) {
  Code signs = 0;
  for (int i = 0; i < kGroup; ++i) signs |= Code((x[i] < 0) != (scale < 0)) << (24 + i);
  if (book.signs == Codebook::Signs::none) return nearest_points(book, scale, x, 0).first;
  if (book.signs == Codebook::Signs::free || !__builtin_parity(signs))
    return nearest_points(book, scale, x, signs).first;
  std::pair<Code, float> best{0, INFINITY};
  for (int flipped = 0; flipped < kGroup; ++flipped) {
    const auto found = nearest_points(book, scale, x, signs ^ Code(1) << (24 + flipped));
    if (found.second < best.second) best = found;
  }
  return best.first;
}

NIBBLE_CLONES void count_up(const Code* codes, int count, int first, std::int8_t* out) {
  for (int i = 0; i < count; ++i) out[i] = std::int8_t(first + int(codes[i]));
}

/// The values of a block's levels.
NIBBLE_CLONES void scale_up(const std::int8_t* level, const Grid& grid, int count, int sub,
                            float* out) {
  for (int s = 0; s < count / sub; ++s)
    for (int i = s * sub; i < (s + 1) * sub; ++i)
      out[i] = grid.scale[s] * float(level[i]) + grid.offset[s];
}

}  // namespace

Code Format::round(const Grid& grid, int pos, const float* x) const {
  const int s = pos / layout().sub;
  if (layout().codebook) return nearest_group(*layout().codebook, grid.scale[s], x);
  const auto first = Code(layout().first_code);
  Code best = first;
  float best_error = INFINITY;
  for (Code c = first; c < level_values_.size(); ++c) {
    const float error = std::fabs(x[0] - (grid.scale[s] * level_values_[c] + grid.offset[s]));
    if (error < best_error) best_error = error, best = c;
  }
  return best;
}

void Format::value(const Grid& grid, int pos, Code code, float* out) const {
  const int s = pos / layout().sub;
  if (layout().codebook) {
    std::int8_t level[kGroup];
    layout().codebook->levels(code, level);
    for (int i = 0; i < kGroup; ++i) out[i] = grid.scale[s] * float(level[i]) + grid.offset[s];
    return;
  }
  out[0] = grid.scale[s] * level_values_[code] + grid.offset[s];
}

void Format::levels(const Grid&, const Code* codes, std::int8_t* out) const {
  const std::int8_t* table = layout().levels.data();
  if (layout().codebook)
    for (int i = 0; i < block(); i += kGroup) layout().codebook->levels(codes[i / kGroup], out + i);
  else if (consecutive_)
    count_up(codes, block(), table[0], out);
  else
    for (int i = 0; i < block(); ++i) out[i] = table[codes[i]];
}

void Format::unpack_bytes(const std::byte*, Grid&, std::uint8_t*) const {
  NIBBLE_CHECK(false && "codes of a byte");
}

void Format::encode(const float*, std::size_t, std::byte*) const { NIBBLE_CHECK(false && "plain"); }

void Format::decode(const std::byte* in, std::size_t blocks, float* out) const {
  Grid grid;
  Code codes[kMaxBlock];
  std::int8_t level[kMaxBlock];
  const int sub = layout().sub;
  for (std::size_t b = 0; b < blocks; ++b, in += spec_.bytes) {
    unpack(in, grid, codes);
    if (!layout().values.empty()) {
      for (int i = 0; i < block(); ++i)
        *out++ = grid.scale[i / sub] * level_values_[codes[i]] + grid.offset[i / sub];
      continue;
    }
    levels(grid, codes, level);
    scale_up(level, grid, block(), sub, out);
    out += block();
  }
}

namespace {

/// Members of families that were asked for.
class Made {
 public:
  const Format* find(std::string_view id) {
    const std::lock_guard lock(mutex_);
    for (const Member& each : members_)
      if (each.id == id) return each.format.get();
    for (const FormatFamily* family : family_registry())
      if (auto format = family->make(id))
        return members_.emplace_back(Member{std::string(id), std::move(format)}).format.get();
    return nullptr;
  }

 private:
  struct Member {
    std::string id;
    std::unique_ptr<Format> format;
  };
  std::mutex mutex_;
  std::deque<Member> members_;
};

}  // namespace

std::vector<const Format*> all_formats() {
  std::vector<const Format*> all(format_registry().begin(), format_registry().end());
  for (const FormatFamily* family : family_registry())
    for (const std::string_view id : family->samples()) all.push_back(find_format(id));
  return all;
}

const Format* find_format(std::string_view id) {
  for (const Format* format : format_registry())
    if (format->id() == id) return format;
  static Made made;
  return made.find(id);
}

const Format* find_format_by_ggml_type(int type) {
  for (const Format* format : format_registry())
    if (type >= 0 && format->spec().ggml_type == type) return format;
  return nullptr;
}

}  // namespace nibble
