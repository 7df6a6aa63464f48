#include "kernel/inputs.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <vector>

#include "base/half.h"
#include "format/bits.h"

namespace nibble {
namespace {

using Kind = InputRounding::Kind;

/// The addition leaves no bits below 1. |x| < 2^22.
float nearest_integer(float x) { return (x + 0x1.8p23f) - 0x1.8p23f; }

/// The nearest float with `mantissa` bits behind the leading one and no exponent below `lowest`.
float nearest_float(float x, int mantissa, int lowest) {
  const int exponent = int(std::bit_cast<std::uint32_t>(x) >> 23 & 255) - 127;
  const int power = std::max(exponent, lowest) - mantissa;
  const float step = std::bit_cast<float>(std::uint32_t(power + 127) << 23);
  return nearest_integer(x / step) * step;
}

float nearest_e4m3(float x) {
  return nearest_float(std::clamp(x, -kLargestE4m3, kLargestE4m3), 3, -6);
}
float nearest_e2m1(float x) { return nearest_float(std::clamp(x, -6.0f, 6.0f), 1, 0); }
float nearest_int8(float x) { return nearest_integer(std::clamp(x, -128.0f, 127.0f)); }

/// The largest size; NaN if there is one. The bits of sizes are in their order, NaN behind
/// infinity.
float largest(const float* values, std::int64_t n) {
  std::uint32_t most = 0;
  for (std::int64_t i = 0; i < n; ++i)
    most = std::max(most, std::bit_cast<std::uint32_t>(values[i]) & 0x7fffffffu);
  return std::bit_cast<float>(most);
}

template <float (*nearest)(float)>
void to_grid(const float* values, std::int64_t n, float scale, float* out) {
  for (std::int64_t i = 0; i < n; ++i) out[i] = scale == 0 ? 0 : nearest(values[i] / scale) * scale;
}

void round_group(float global, const float* values, std::int64_t n, float* out) {
  const float scale = nearest_e4m3(global * (largest(values, n) / 6));
  to_grid<nearest_e2m1>(values, n, scale / global, out);
}

float as_fp16(float x) { return fp16_to_f32(f32_to_fp16(x)); }

bool reaches(float x, float threshold) { return threshold > 0 && std::fabs(x) >= threshold; }

/// Which columns hold an outlier.
std::vector<std::uint8_t> outlier_columns(float threshold, const float* values, std::int64_t tokens,
                                          std::int64_t columns, ThreadPool& pool) {
  std::vector<std::uint8_t> out(static_cast<std::size_t>(columns));
  pool.run(columns, 1024, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = 0; t < tokens; ++t)
      for (std::int64_t j = begin; j < end; ++j)
        out[std::size_t(j)] |= reaches(as_fp16(values[t * columns + j]), threshold);
  });
  return out;
}

/// One token; of a column of outliers, what is none here still counts for the scale.
void round_around(const std::vector<std::uint8_t>& outliers, float threshold, const float* values,
                  float* out) {
  const std::size_t n = outliers.size();
  for (std::size_t j = 0; j < n; ++j) {
    const float x = as_fp16(values[j]);
    out[j] = reaches(x, threshold) ? 0 : x;
  }
  const float size = largest(out, std::int64_t(n));
  for (std::size_t j = 0; j < n; ++j) {
    if (outliers[j])
      out[j] = values[j];
    else
      out[j] = size == 0 ? 0 : nearest_integer(out[j] * (127 / size)) * (size / 127);
  }
}

/// Takes the largest to `top`, unless there is one for all tokens.
float scale_of(const InputRounding& rounding, float top, const float* values, std::int64_t n) {
  return rounding.scale > 0 ? rounding.scale : largest(values, n) / top;
}

constexpr float kInt8Top = 127.5f;

void round_token(const InputRounding& rounding, const std::vector<std::uint8_t>& outliers,
                 const float* values, std::int64_t n, float* out) {
  switch (rounding.kind) {
    case Kind::none:
      std::copy_n(values, n, out);
      return;
    case Kind::int8:
      return to_grid<nearest_int8>(values, n, scale_of(rounding, kInt8Top, values, n), out);
    case Kind::fp8: {
      const std::int64_t group = rounding.group > 0 ? rounding.group : n;
      for (std::int64_t j = 0; j < n; j += group) {
        const std::int64_t size = std::min(group, n - j);
        to_grid<nearest_e4m3>(values + j, size, scale_of(rounding, kLargestE4m3, values + j, size),
                              out + j);
      }
      return;
    }
    case Kind::fp4:
      for (std::int64_t j = 0; j < n; j += 16)
        round_group(rounding.scale, values + j, std::min<std::int64_t>(16, n - j), out + j);
      return;
    case Kind::llm_int8:
      return round_around(outliers, rounding.threshold, values, out);
  }
}

}  // namespace

void round_inputs(const InputRounding& rounding, const float* values, std::int64_t tokens,
                  std::int64_t columns, float* out, ThreadPool& pool) {
  std::vector<std::uint8_t> outliers;
  if (rounding.kind == Kind::llm_int8)
    outliers = outlier_columns(rounding.threshold, values, tokens, columns, pool);
  pool.run(tokens, 8, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t at = begin * columns; at < end * columns; at += columns)
      round_token(rounding, outliers, values + at, columns, out + at);
  });
}

void round_to_integers(const InputRounding& rounding, const float* values, std::int64_t tokens,
                       std::int64_t columns, std::int8_t* codes, float* scales,
                       std::int32_t* code_sums, ThreadPool& pool) {
  constexpr std::int64_t kSummed = 16, kScaled = 32;
  pool.run(tokens, 8, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t at = begin * columns; at < end * columns; at += columns) {
      const bool finite = std::isfinite(largest(values + at, columns));
      const float scale = finite ? scale_of(rounding, kInt8Top, values + at, columns) : NAN;
      std::fill_n(scales + at / kScaled, columns / kScaled, scale);
      for (std::int64_t j = at; j < at + columns; j += kSummed) {
        std::int32_t sum = 0;
        for (std::int64_t k = j; k < j + kSummed; ++k) {
          codes[k] = scale > 0 ? std::int8_t(nearest_int8(values[k] / scale)) : std::int8_t(0);
          sum += codes[k];
        }
        code_sums[j / kSummed] = sum;
      }
    }
  });
}

}  // namespace nibble
