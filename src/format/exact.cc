#include "format/exact.h"

#include <algorithm>
#include <cmath>

#include "format/levels.h"

namespace nibble {
namespace {

/// The scales that give the values of `from` if any do.
Grid scales_for(const Format& from, const Grid& grid, const Format& to) {
  Grid out;
  out.d = grid.d;
  if (to.layout().zero_point)
    out.dmin = from.layout().zero_point ? grid.dmin : 0;
  else if (to.layout().has_offset)  // the lowest levels meet
    out.dmin = grid.scale[0] * from.level_values().front() + grid.offset[0] -
               grid.d * to.level_values().front();
  to.make_effective(out);
  return out;
}

Code nearest_code(const Format& to, const Grid& grid, float x) {
  const auto levels = to.layout().levels;
  const float level = grid.d == 0 ? 0 : std::nearbyint((x - grid.offset[0]) / grid.d);
  return Code(std::clamp(level, float(levels.front()), float(levels.back())) -
              float(levels.front()));
}

}  // namespace

bool may_convert_exactly(const Format& from, const Format& to) {
  const Layout &a = from.layout(), &b = to.layout();
  return a.scales == Layout::Scales::single && b.scales == Layout::Scales::single && !b.whole_row &&
         consecutive(a.levels) && consecutive(b.levels) && b.levels.size() >= a.levels.size() &&
         from.block() % to.block() == 0;
}

bool convert_exactly(const Format& from, const std::byte* in, const Format& to, std::size_t columns,
                     std::byte* out) {
  float values[kMaxBlock], again[kMaxBlock];
  Code codes[kMaxBlock];
  const auto n = std::size_t(from.block()), m = std::size_t(to.block());
  for (std::size_t j = 0; j < columns; j += n, in += from.spec().bytes) {
    Grid grid;
    from.unpack(in, grid, codes);
    from.decode(in, 1, values);
    const Grid scales = scales_for(from, grid, to);
    for (std::size_t k = 0; k < n; k += m, out += to.spec().bytes) {
      for (std::size_t i = 0; i < m; ++i) codes[i] = nearest_code(to, scales, values[k + i]);
      to.pack(scales, codes, out);
      to.decode(out, 1, again);
      // Zero has no sign that matters.
      if (!std::equal(again, again + m, values + k)) return false;
    }
  }
  return true;
}

const Format& gguf_format(const Format& format) {
  if (format.spec().ggml_type >= 0) return format;
  const bool plain = format.layout().number == Layout::Number::fp16 && !format.layout().has_offset;
  for (const char* id : {"q4_0", "q8_0"})
    if (const Format* to = find_format(id); plain && may_convert_exactly(format, *to)) return *to;
  return *find_format("f16");
}

}  // namespace nibble
