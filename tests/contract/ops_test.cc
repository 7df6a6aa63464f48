// The operations of every instruction set, against the same in double.
#include "kernel/ops.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <random>
#include <span>
#include <vector>

#include "base/cpu.h"
#include "base/half.h"

namespace nibble {

std::span<const Ops* const> ops_registry();

namespace {

using Floats = std::vector<float>;
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr double kUnit = 0x1p-24;  // unit roundoff of float32

Floats noise(std::size_t n, float size, unsigned seed = 1) {
  std::mt19937 rng(seed);
  Floats x(n);
  for (float& v : x) v = size * (float(rng() >> 8) * 0x1p-23f - 1);
  return x;
}

class OpsContract : public testing::TestWithParam<const Ops*> {
 protected:
  void SetUp() override {
    if (!isa_runs(GetParam()->isa)) GTEST_SKIP() << "this processor has no " << GetParam()->isa;
  }
  const Ops& ops = *GetParam();
};

TEST_P(OpsContract, HalvesAreThoseOfBase) {
  std::vector<std::uint16_t> all(0x10000), back(all.size());
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = std::uint16_t(i);
  Floats x(all.size());
  ops.fp16_to_f32(all.data(), x.data(), std::int64_t(x.size()));
  ops.f32_to_fp16(x.data(), back.data(), std::int64_t(x.size()));
  for (std::size_t i = 0; i < all.size(); ++i) {
    const float expected = fp16_to_f32(all[i]);
    if (std::isnan(expected)) {
      ASSERT_TRUE(std::isnan(x[i]) && std::isnan(fp16_to_f32(back[i])));
    } else {
      ASSERT_EQ(x[i], expected);
      ASSERT_EQ(back[i], all[i]);
    }
  }
  // Middles between neighbours, and what is next to them; 13 at a time, so that a rest is covered.
  for (std::size_t i = 0; i + 13 < 0x7bff; i += 13) {
    Floats y(13);
    std::uint16_t h[13];
    for (std::size_t k = 0; k < 13; ++k) {
      const float middle = (x[i + k] + x[i + k + 1]) / 2;
      y[k] = k % 3 == 0 ? middle : std::nextafter(middle, k % 3 == 1 ? 0.0f : 1e6f);
    }
    ops.f32_to_fp16(y.data(), h, 13);
    for (std::size_t k = 0; k < 13; ++k) ASSERT_EQ(h[k], f32_to_fp16(y[k])) << y[k];
  }
}

// The relative error of e^x is below 2^-22, and six roundings at most follow. Beyond |x| = 87,
// where e^x is clamped, results are below 120 * 2 * e^-87 < 1e-35 or as good as |x|.
TEST_P(OpsContract, SiluMul) {
  Floats a;
  for (float x = -120; x < 120; x += 0.0371f) a.push_back(x);
  const Floats b = noise(a.size(), 2);
  Floats out(a.size());
  ops.silu_mul(a.data(), b.data(), out.data(), std::int64_t(a.size()));
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double expected = double(a[i]) / (1 + std::exp(-double(a[i]))) * b[i];
    ASSERT_NEAR(out[i], expected, std::fabs(expected) * (0x1p-22 + 6 * kUnit) + 1e-35) << a[i];
  }
}

// As above; and 2u has six roundings, whose relative error e^-2u multiplies by |2u|.
TEST_P(OpsContract, GeluMul) {
  Floats a;
  for (float x = -20; x < 20; x += 0.0071f) a.push_back(x);
  const Floats b = noise(a.size(), 2);
  Floats out(a.size());
  ops.gelu_mul(a.data(), b.data(), out.data(), std::int64_t(a.size()));
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double x = a[i], u = std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x);
    const double expected = x / (1 + std::exp(-2 * u)) * b[i];
    const double relative = 0x1p-22 + 6 * kUnit * (1 + std::fabs(2 * u));
    ASSERT_NEAR(out[i], expected, std::fabs(expected) * relative + 1e-35) << a[i];
  }
}

TEST_P(OpsContract, Softcap) {
  Floats x;
  for (float v = -300; v < 300; v += 0.137f) x.push_back(v);
  const Floats before = x;
  ops.softcap(x.data(), std::int64_t(x.size()), 30);
  // tanh is 1 - 2 / (e^2y + 1): 2^-21 for e and roundings near 1, and y's rounding times |y tanh'|.
  for (std::size_t i = 0; i < x.size(); ++i)
    ASSERT_NEAR(x[i], 30 * std::tanh(double(before[i]) / 30), 30 * 0x1p-21) << before[i];
}

TEST_P(OpsContract, RmsNorm) {
  for (const std::size_t n : {7u, 16u, 64u, 577u}) {
    const Floats x = noise(n, 3), w = noise(n, 1, 2);
    Floats out(n);
    ops.rms_norm(x.data(), w.data(), out.data(), std::int64_t(n), 1e-5f);
    double sum = 0;
    for (const float v : x) sum += double(v) * v;
    const double factor = 1 / std::sqrt(sum / double(n) + 1e-5);
    for (std::size_t i = 0; i < n; ++i) {
      // A square goes through at most n/16 + 20 roundings, halved by the root; six more follow.
      const double expected = x[i] * factor * w[i];
      ASSERT_NEAR(out[i], expected, std::fabs(expected) * kUnit * (double(n) / 32 + 16));
    }
  }
}

TEST_P(OpsContract, Rope) {
  for (const bool neighbours : {false, true}) {
    constexpr std::size_t heads = 3, dim = 20, half = dim / 2;
    Floats x = noise(heads * dim, 2), c(half), s(half);
    for (std::size_t i = 0; i < half; ++i) c[i] = std::cos(float(i)), s[i] = std::sin(float(i));
    const Floats before = x;
    ops.rope(x.data(), heads, dim, c.data(), s.data(), neighbours);
    for (std::size_t h = 0; h < heads; ++h)
      for (std::size_t i = 0; i < half; ++i) {
        const std::size_t p = h * dim + (neighbours ? 2 * i : i);
        const std::size_t q = neighbours ? p + 1 : p + half;
        const double a = before[p], b = before[q];
        const double bound = 2 * kUnit * (std::fabs(a) + std::fabs(b)) * 1.01;
        ASSERT_NEAR(x[p], a * c[i] - b * s[i], bound);
        ASSERT_NEAR(x[q], a * s[i] + b * c[i], bound);
      }
  }
}

/// Blocks of 32 keep their scale as fp16 holds it, as far as fp16 reaches.
float stored_scale(float scale, std::int64_t block) {
  const float half = fp16_to_f32(f32_to_fp16(scale));
  return block == 32 && std::isfinite(half) ? half : scale;
}

void check_codes(const Ops& ops, const Floats& x, std::int64_t block) {
  const auto n = std::int64_t(x.size());
  std::vector<std::int8_t> codes(x.size());
  Floats scales(x.size() / 32);
  std::vector<std::int32_t> sums(x.size() / 16);
  ops.quantize_input(x.data(), n, block, codes.data(), scales.data(), sums.data());
  for (std::int64_t begin = 0; begin < n; begin += block) {
    const std::int64_t end = std::min(n, begin + block);
    float peak = 0;
    bool finite = true;
    for (std::int64_t i = begin; i < end; ++i) {
      peak = std::max(peak, std::fabs(x[std::size_t(i)]));
      finite = finite && std::isfinite(x[std::size_t(i)]);
    }
    const float step = peak / 127;
    for (std::int64_t i = begin; i < end; ++i) {
      const float scale = scales[std::size_t(i / 32)];
      if (!finite) {
        ASSERT_TRUE(std::isnan(scale)) << "no NaN or infinity passes silently";
        continue;
      }
      ASSERT_EQ(scale, stored_scale(step, block));
      // Half a step, and the roundings of factor, product and step; tiny values become 0.
      const double bound = peak < 1e-35f ? peak : step * (0.5 + 127 * 4 * kUnit);
      ASSERT_NEAR(codes[std::size_t(i)] * double(step), x[std::size_t(i)], bound);
      sums[std::size_t(i / 16)] -= codes[std::size_t(i)];
    }
  }
  for (std::size_t i = 0; i < sums.size(); ++i)
    if (std::isfinite(scales[i / 2])) {
      ASSERT_EQ(sums[i], 0) << "16 codes from " << 16 * i;
    }
}

TEST_P(OpsContract, QuantizeInput) {
  Floats x = noise(32 * 17, 4);  // no multiple of a block of 256
  check_codes(ops, x, 256);
  for (std::size_t i = 0; i < 32; ++i) x[i] = 0, x[32 + i] = 1e-41f, x[64 + i] *= 1e30f;
  x[96] = kNan, x[128 + 7] = INFINITY, x[160 + 31] = -INFINITY;
  check_codes(ops, x, 32);
  check_codes(ops, x, 256);
}

struct Attention {
  int group, dim;
  std::int64_t tokens, position, window;
  float cap;
};

/// The dimensions of a head that a cache of codes turns together.
std::int64_t turned_together(std::int64_t dim) { return std::min<std::int64_t>(dim & -dim, 256); }

/// Heads times Sylvester's matrix, by sums and differences of pairs in the order of every
/// instruction set, so that roundings are the same.
Floats turned(Floats x, std::int64_t dim) {
  const std::int64_t size = turned_together(dim);
  for (auto head = x.begin(); head < x.end(); head += dim) {
    for (std::int64_t half = 1; half < size; half *= 2)
      for (std::int64_t k = 0; k < dim; ++k) {
        if (k & half) continue;
        const float a = head[k], b = head[k + half];
        head[k] = a + b, head[k + half] = a - b;
      }
    const float norm = 1 / std::sqrt(float(size));
    for (std::int64_t k = 0; k < dim; ++k) head[k] *= norm;
  }
  return x;
}

/// A block as a cache of codes keeps it.
void round_block(const Ops& ops, const std::string& type, float (&block)[32]) {
  if (type == "q8_0") {
    std::int8_t codes[32];
    float scale;
    std::int32_t sums[2];
    ops.quantize_input(block, 32, 32, codes, &scale, sums);
    for (int i = 0; i < 32; ++i) block[i] = scale * float(codes[i]);
    return;
  }
  float extreme = 0;
  for (const float v : block)
    if (std::fabs(v) > std::fabs(extreme)) extreme = v;
  const float scale = fp16_to_f32(f32_to_fp16(extreme / -8));
  for (float& v : block) v = scale * std::clamp(std::nearbyint(v * (1 / scale)), -8.0f, 7.0f);
}

/// What a cache of a type keeps of heads.
Floats kept(const Ops& ops, const std::string& type, Floats x, std::int64_t dim) {
  if (type == "f32") return x;
  if (type == "f16") {
    for (float& v : x) v = fp16_to_f32(f32_to_fp16(v));
    return x;
  }
  x = turned(std::move(x), dim);
  for (auto head = x.begin(); head < x.end(); head += dim)
    for (std::int64_t b = 0; b < dim; b += 32) {
      float block[32] = {};
      const std::int64_t n = std::min<std::int64_t>(32, dim - b);
      std::copy_n(head + b, n, block);
      round_block(ops, type, block);
      std::copy_n(block, n, head + b);
    }
  return x;
}

/// Attention over a cache of one head, with everything that lies behind the last position NaN.
Floats attention_of(const CacheOps& cache, const Attention& c, const Floats& q, const Floats& k,
                    const Floats& v) {
  const std::int64_t positions = c.position + c.tokens, width = c.group * c.dim;
  const std::int64_t pages = (positions + kPagePositions - 1) / kPagePositions;
  const std::int64_t part = cache_part_bytes(cache, c.dim);  // another head lies before ours
  std::vector<std::vector<std::uint8_t>> memory(
      std::size_t(pages), std::vector<std::uint8_t>(std::size_t(3 * part), 0xff));
  std::vector<const std::uint8_t*> page;
  for (const auto& one : memory) page.push_back(one.data());
  for (std::int64_t p = 0; p < positions; ++p) {
    std::uint8_t* at = memory[std::size_t(p / kPagePositions)].data();
    cache.store(&k[std::size_t(p * c.dim)], &v[std::size_t(p * c.dim)], c.dim, at + part,
                at + 2 * part, p % kPagePositions);
  }
  Floats out(q.size(), kNan);
  Floats scratch(std::size_t(attend_scratch(c.tokens, c.group, c.dim, c.position)));
  const AttendArgs args{.q = q.data(),
                        .out = out.data(),
                        .q_stride = width,
                        .out_stride = width,
                        .pages = page.data(),
                        .key_offset = part,
                        .value_offset = 2 * part,
                        .position = c.position,
                        .tokens = c.tokens,
                        .window = c.window,
                        .group = c.group,
                        .head_dim = c.dim,
                        .scale = 1 / std::sqrt(float(c.dim)),
                        .cap = c.cap,
                        .scratch = scratch.data()};
  cache.attend(&args);
  return out;
}

/// Queries, keys and values, and what attention makes of them.
struct AttentionRun {
  Attention c;
  bool coded;
  Floats q, k, v, out;  // q, k, v as the scores and sums see them

  AttentionRun(const Ops& ops, const CacheOps& cache, const Attention& a)
      : c(a), coded(cache.block > 0) {
    q = noise(std::size_t(c.tokens * c.group * c.dim), 2);
    k = noise(std::size_t((c.position + c.tokens) * c.dim), 2, 2), v = noise(k.size(), 1, 3);
    out = attention_of(cache, c, q, k, v);
    k = kept(ops, cache.type, k, c.dim), v = kept(ops, cache.type, v, c.dim);
    if (coded) q = kept(ops, "q8_0", q, c.dim);
  }

  struct Score {
    double value, terms;  // terms: the sum of their sizes
  };
  Score score(std::int64_t row, std::int64_t p) const {
    double dot = 0, terms = 0;
    for (int d = 0; d < c.dim; ++d) {
      const double term =
          double(q[std::size_t(row * c.dim + d)]) * double(k[std::size_t(p * c.dim + d)]);
      dot += term, terms += std::fabs(term);
    }
    const double scale = 1 / std::sqrt(float(c.dim));
    return {c.cap > 0 ? c.cap * std::tanh(dot * scale / c.cap) : dot * scale, terms * scale};
  }

  void check(std::int64_t row) const {
    const std::int64_t last = c.position + row / c.group;
    const std::int64_t first = c.window > 0 ? std::max<std::int64_t>(0, last - c.window + 1) : 0;
    std::vector<double> weight;
    double sum = 0, terms = 0;
    for (std::int64_t p = first; p <= last; ++p) {
      const Score found = score(row, p);
      weight.push_back(std::exp(found.value));
      sum += weight.back(), terms = std::max(terms, found.terms);
    }
    // A score is off by at most (dim + 3) u of its terms, by cap 2^-21 more with a cap; a weight by
    // twice that and by 2^-21 of itself; sums by positions u, and twice u more where values have
    // scales.
    const double score_error = (c.dim + 3) * kUnit * terms + c.cap * 0x1p-21;
    const double relative = 2 * score_error + 0x1p-21 + 2 * double(last + 26) * kUnit;
    std::vector<double> expected, bound;
    for (int d = 0; d < c.dim; ++d) {
      double value = 0, most = 0;
      for (std::int64_t p = first; p <= last; ++p) {
        const double v_p = double(v[std::size_t(p * c.dim + d)]);
        value += weight[std::size_t(p - first)] / sum * v_p, most = std::max(most, std::fabs(v_p));
      }
      expected.push_back(value), bound.push_back(relative * most);
    }
    if (coded) turn_back(expected, bound);
    for (int d = 0; d < c.dim; ++d)
      ASSERT_NEAR(out[std::size_t(row * c.dim + d)], expected[std::size_t(d)],
                  bound[std::size_t(d)])
          << "row " << row << " dimension " << d;
  }

  /// Sylvester's matrix by its definition. Errors add up, and every term goes through at most
  /// log2(256) + 2 roundings more.
  void turn_back(std::vector<double>& values, std::vector<double>& bound) const {
    const std::int64_t size = turned_together(c.dim);
    const std::vector<double> x = values, error = bound;
    for (std::int64_t d = 0; d < c.dim; ++d) {
      double value = 0, errors = 0;
      for (std::int64_t i = d / size * size; i < d / size * size + size; ++i) {
        const bool minus = std::popcount(std::uint64_t(i & d & (size - 1))) % 2 == 1;
        value += minus ? -x[std::size_t(i)] : x[std::size_t(i)];
        errors += error[std::size_t(i)] + 10 * kUnit * std::fabs(x[std::size_t(i)]);
      }
      values[std::size_t(d)] = value / std::sqrt(double(size));
      bound[std::size_t(d)] = errors / std::sqrt(double(size));
    }
  }
};

TEST_P(OpsContract, Attend) {
  const Attention all[] = {{1, 16, 1, 0, 0, 0},   {3, 64, 1, 40, 0, 0},    {3, 64, 16, 0, 0, 0},
                           {2, 24, 5, 33, 0, 0},  {4, 8, 7, 20, 9, 0},     {1, 80, 3, 15, 0, 20},
                           {5, 12, 16, 1, 16, 5}, {2, 128, 2, 100, 48, 0}, {1, 512, 1, 64, 0, 0}};
  for (const Attention& c : all)
    for (const CacheOps& cache : ops.caches) {
      SCOPED_TRACE(testing::Message() << cache.type << " group " << c.group << " dim " << c.dim
                                      << " tokens " << c.tokens << " position " << c.position);
      const AttentionRun run(ops, cache, c);
      for (std::int64_t row = 0; row < c.tokens * c.group; ++row) run.check(row);
    }
}

/// Of one position attention gives the value: zeros stay zeros, and what is not finite is not lost.
TEST_P(OpsContract, CachesKeepZerosAndNan) {
  const Attention one{1, 64, 1, 0, 0, 0};
  const Floats half(64, 0.5f);
  for (const CacheOps& cache : ops.caches)
    for (const float special : {0.0f, 1e-30f, kNan, -INFINITY})
      for (const float found : attention_of(cache, one, half, half, Floats(64, special))) {
        SCOPED_TRACE(testing::Message() << cache.type << " of " << special);
        if (std::isfinite(special)) {
          ASSERT_NEAR(found, special, 1e-30f);
        } else {
          ASSERT_FALSE(std::isfinite(found));
        }
      }
}

TEST_P(OpsContract, NanIsKept) {
  Floats x(40, 1.0f), out(40);
  x[17] = kNan;
  ops.silu_mul(x.data(), x.data(), out.data(), 40);
  EXPECT_TRUE(std::isnan(out[17]));
  ops.gelu_mul(x.data(), x.data(), out.data(), 40);
  EXPECT_TRUE(std::isnan(out[17]));
  ops.rms_norm(x.data(), x.data(), out.data(), 40, 1e-5f);
  EXPECT_TRUE(std::isnan(out[0]));
  ops.softcap(x.data(), 40, 5);
  EXPECT_TRUE(std::isnan(x[17]));
}

INSTANTIATE_TEST_SUITE_P(All, OpsContract,
                         testing::ValuesIn(ops_registry().begin(), ops_registry().end()),
                         [](const auto& o) { return std::string(o.param->isa); });

}  // namespace
}  // namespace nibble
