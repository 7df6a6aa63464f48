#include "format/format.h"

#include <cmath>

#include "base/result.h"

namespace nibble {

Format::Format(const Spec& spec) : spec_(spec) {
  const auto& l = spec.layout.levels;
  consecutive_ = !l.empty() && l.back() - l.front() == int(l.size()) - 1;
}

void Format::make_effective(Grid& grid) const {
  const Layout& l = layout();
  const int subs = l.scales == Layout::Scales::none ? 0 : block() / l.sub;
  for (int s = 0; s < subs; ++s) {
    const bool nested = l.scales == Layout::Scales::nested;
    grid.scale[s] = nested ? grid.d * float(grid.sub_scale[s]) : grid.d;
    grid.offset[s] = !l.has_offset ? -0.0f
                     : nested      ? -(grid.dmin * float(grid.sub_min[s]))
                                   : grid.dmin;
  }
}

Code Format::round(const Grid& grid, int pos, const float* x) const {
  const int s = pos / layout().sub;
  const auto first = Code(layout().first_code);
  Code best = first;
  float best_error = INFINITY;
  for (Code c = first; c < layout().levels.size(); ++c) {
    const float error =
        std::fabs(x[0] - (grid.scale[s] * float(layout().levels[c]) + grid.offset[s]));
    if (error < best_error) best_error = error, best = c;
  }
  return best;
}

void Format::value(const Grid& grid, int pos, Code code, float* out) const {
  const int s = pos / layout().sub;
  out[0] = grid.scale[s] * float(layout().levels[code]) + grid.offset[s];
}

void Format::levels(const Grid&, const Code* codes, std::int8_t* out) const {
  const std::int8_t* table = layout().levels.data();
  if (consecutive_)
    for (int i = 0; i < block(); ++i) out[i] = std::int8_t(table[0] + int(codes[i]));
  else
    for (int i = 0; i < block(); ++i) out[i] = table[codes[i]];
}

void Format::encode(const float*, std::size_t, std::byte*) const { NIBBLE_CHECK(!"plain"); }

void Format::decode(const std::byte* in, std::size_t blocks, float* out) const {
  Grid grid;
  Code codes[kMaxBlock];
  std::int8_t level[kMaxBlock];
  const int sub = layout().sub;
  for (std::size_t b = 0; b < blocks; ++b, in += spec_.bytes) {
    unpack(in, grid, codes);
    levels(grid, codes, level);
    for (int s = 0; s < block() / sub; ++s)
      for (int i = 0; i < sub; ++i)
        *out++ = grid.scale[s] * float(level[s * sub + i]) + grid.offset[s];
  }
}

const Format* find_format(std::string_view id) {
  for (const Format* format : format_registry())
    if (format->id() == id) return format;
  return nullptr;
}

const Format* find_format_by_ggml_type(int type) {
  for (const Format* format : format_registry())
    if (type >= 0 && format->spec().ggml_type == type) return format;
  return nullptr;
}

}  // namespace nibble
