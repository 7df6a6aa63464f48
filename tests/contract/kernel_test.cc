// Every kernel (packing x instruction set) with every format that it serves, against the format's
// own decoding and sums in double, and against each other.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "base/cpu.h"
#include "base/half.h"
#include "base/large.h"
#include "kernel/matrix.h"
#include "kernel/ops.h"

namespace nibble {

std::span<const Ops* const> ops_registry();

namespace {

using Rng = std::mt19937;

float uniform(Rng& rng, float low, float high) {
  return low + (high - low) * float(rng() >> 8) * 0x1p-24f;
}

/// Bytes of random blocks, built through the format's own pack(). `extreme`: with the largest
/// factors and levels.
std::vector<std::byte> random_weights(const Format& format, std::size_t blocks, bool extreme,
                                      Rng& rng) {
  const Layout& layout = format.layout();
  std::vector<std::byte> bytes(blocks * format.spec().bytes);
  std::vector<Code> codes(std::size_t(format.block() / format.spec().grain));
  for (std::size_t b = 0; b < blocks; ++b) {
    Grid grid;
    for (float* number : {&grid.d, &grid.dmin}) {
      *number = uniform(rng, -0.01f, 0.01f);
      if (layout.number != Layout::Number::f32) *number = fp16_to_f32(f32_to_fp16(*number));
    }
    if (layout.number == Layout::Number::power) grid.d = std::ldexp(1.0f, -int(rng() % 99));
    if (layout.zero_point) grid.dmin = layout.levels[rng() % layout.levels.size()];
    for (int s = 0; s < kMaxSubBlocks; ++s) {
      const int steps = (layout.scale_max - layout.scale_min) / layout.scale_step;
      grid.sub_scale[s] =
          std::int16_t(layout.scale_min + layout.scale_step * int(rng() % unsigned(steps + 1)));
      grid.sub_min[s] = std::int16_t(rng() % unsigned(layout.offset_max + 1));
      if (extreme && layout.scales == Layout::Scales::nested)
        grid.sub_scale[s] = std::int16_t(s % 5 == 4 ? layout.scale_min : layout.scale_max),
        grid.sub_min[s] = std::int16_t(layout.offset_max);
    }
    format.make_effective(grid);
    if (layout.codebook) {  // of random bytes, since not every combination is a code
      std::vector<std::byte> random(format.spec().bytes);
      for (std::byte& byte : random) byte = std::byte(rng() & 255);
      Grid other;
      format.unpack(random.data(), other, codes.data());
    } else {
      for (std::size_t i = 0; i < codes.size(); ++i) {
        const float x = uniform(rng, -1, 1);
        codes[i] = layout.scales == Layout::Scales::none ? format.round(grid, int(i), &x)
                   : extreme ? Code(b % 2 == 0 ? format.level_values().size() - 1 : 0)
                             : Code(rng() % format.level_values().size());
      }
    }
    format.pack(grid, codes.data(), bytes.data() + b * format.spec().bytes);
  }
  return bytes;
}

struct Case {
  const Format* format;
  const char* isa;
};

struct Shape {
  std::int64_t rows, columns, tokens;
  bool extreme = false;  // largest weights and inputs
};

/// Inputs with the 8-bit form, made in plain code.
struct Inputs {
  std::vector<float> values, scales;
  std::vector<std::int8_t> codes;
  std::vector<std::int32_t> sums;
  std::vector<float> steps;
  InputView view;
  Inputs(std::int64_t tokens, std::int64_t columns, int block, bool extreme, const char* isa,
         Rng& rng)
      : values(std::size_t(tokens * columns)),
        scales(values.size() / 32),
        codes(values.size()),
        sums(values.size() / 16) {
    for (float& x : values) x = uniform(rng, -1, 1);
    for (std::size_t i = 0; i < scales.size(); ++i)
      scales[i] = i * 32 % std::size_t(block) == 0 ? uniform(rng, 0.001f, 0.1f) : scales[i - 1];
    for (std::size_t i = 0; i < codes.size(); ++i) {
      // Some runs of extreme codes, where 16-bit sums would overflow first.
      codes[i] = extreme           ? std::int8_t(i / std::size_t(columns) % 2 ? 127 : -128)
                 : i / 64 % 3 == 0 ? std::int8_t(i / 192 % 2 ? 127 : -128)
                                   : std::int8_t(int(rng() % 256) - 128);
      if (columns % 32 == 0) sums[i / 16] += codes[i];
    }
    view = {tokens, columns, values.data(), codes.data(), scales.data(), sums.data(), nullptr};
    if (columns % 2 == 0) take_steps(isa);
  }

  void take_steps(const char* isa) {
    for (const Ops* ops : ops_registry()) {
      if (std::string_view(ops->isa) != isa) continue;
      steps.resize(values.size() / std::size_t(ops->bf16.step));
      ops->bf16.round(values.data(), steps.data(), std::int64_t(values.size()));
      view.steps = steps.data();
    }
  }
};

/// One matrix of random weights and its inputs.
class Problem {
 public:
  Problem(const Case& c, const Shape& s) : format(*c.format), shape(s) {
    const std::size_t blocks = std::size_t(s.rows * s.columns / format.block());
    bytes = random_weights(format, blocks, s.extreme, rng);
    decoded.resize(std::size_t(s.rows * s.columns));
    format.decode(bytes.data(), blocks, decoded.data());
    auto packed = Matrix::pack(format, s.rows, s.columns, bytes, pool, c.isa);
    if (!packed) throw std::runtime_error(packed.error().message());
    matrix = *packed;
    inputs = std::make_unique<Inputs>(s.tokens, s.columns, format.block(), s.extreme, c.isa, rng);
  }

  /// The product with tokens [begin, end), with canaries around the rows that must be written.
  std::vector<float> multiply(const InputView& view) const {
    const std::int64_t stride = shape.rows + 3;
    const std::int64_t panels = (shape.rows + kPanelRows - 1) / kPanelRows;
    std::vector<float> out(std::size_t(shape.tokens * stride), kCanary);
    const auto needed =
        std::size_t(matrix.kernel().scratch_bytes(&matrix.view(), shape.tokens - first_token()));
    constexpr std::byte kUntouched{0xa5};
    std::vector<std::byte> scratch(needed + 1024, kUntouched);
    void* aligned = scratch.data();
    std::size_t space = scratch.size();
    std::align(64, needed, aligned, space);
    // Two parts: inputs that the first arranged serve the second.
    const std::int64_t middle = panels / 2;
    Work work{0, middle, first_token(), shape.tokens, out.data(), stride, aligned, false};
    if (middle > 0) matrix.kernel().multiply(&matrix.view(), &view, &work);
    work.panel_begin = middle, work.panel_end = panels, work.arranged = middle > 0;
    matrix.kernel().multiply(&matrix.view(), &view, &work);
    for (const std::byte* after = static_cast<std::byte*>(aligned) + needed;
         after < scratch.data() + scratch.size(); ++after)
      EXPECT_EQ(*after, kUntouched) << "beyond the scratch";
    for (std::int64_t t = 0; t < shape.tokens; ++t)
      for (std::int64_t r = 0; r < stride; ++r)
        if (r >= shape.rows || t < first_token()) {
          EXPECT_EQ(out[std::size_t(t * stride + r)], kCanary) << "row " << r << " token " << t;
        }
    return out;
  }

  std::int64_t first_token() const { return shape.tokens > 8 ? 1 : 0; }  // need not be 0

  static constexpr float kCanary = -12345.0f;
  const Format& format;
  Shape shape;
  Rng rng{7};
  ThreadPool pool{1};
  std::vector<std::byte> bytes;
  std::vector<float> decoded;
  Matrix matrix;
  std::unique_ptr<Inputs> inputs;
};

std::vector<Shape> shapes(const Format& format) {
  const bool plain = format.layout().scales == Layout::Scales::none;
  const std::int64_t block = plain ? 1 : std::max(32, format.block());  // inputs have scales for 32
  std::vector<Shape> all{{1, block, 1},
                         {37, plain ? 33 : block * 3, 2},
                         {16, plain ? 600 : (288 / block + 1) * block, 3}};
  if (plain) all.push_back({19, 1100, 29});
  for (const std::int64_t tokens : {4, 5, 6, 7, 12, 13, 70})
    all.push_back({19, !plain ? block : tokens % 2 == 0 ? 62 : 63, tokens});
  return all;
}

class KernelContract : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (!isa_runs(GetParam().isa)) GTEST_SKIP() << "this processor has no " << GetParam().isa;
  }

  template <class Check>
  void for_shapes(const Check& check) {
    for (const Shape& s : shapes(*GetParam().format)) {
      SCOPED_TRACE(testing::Message() << s.rows << " x " << s.columns << ", tokens " << s.tokens);
      check(Problem(GetParam(), s));
      if (HasFatalFailure()) return;
    }
  }
};

constexpr double kUnit = 0x1p-24;  // unit roundoff of float32

void check_decoding(const Problem& p) {
  std::vector<float> row(std::size_t(p.shape.columns));
  for (std::int64_t r = 0; r < p.shape.rows; ++r) {
    p.matrix.row(r, row.data());
    for (std::int64_t j = 0; j < p.shape.columns; ++j)
      ASSERT_EQ(row[std::size_t(j)], p.decoded[std::size_t(r * p.shape.columns + j)])
          << "row " << r << " column " << j;
  }
}

void check_exact(const Problem& p) {
  const Shape& s = p.shape;
  InputView view = p.inputs->view;
  view.codes = nullptr, view.steps = nullptr;
  const auto out = p.multiply(view);
  for (std::int64_t t = p.first_token(); t < s.tokens; ++t)
    for (std::int64_t r = 0; r < s.rows; ++r) {
      double sum = 0, size = 0;
      for (std::int64_t j = 0; j < s.columns; ++j) {
        const double x = double(p.decoded[std::size_t(r * s.columns + j)]) *
                         p.inputs->values[std::size_t(t * s.columns + j)];
        sum += x, size += std::fabs(x);
      }
      // n products and n additions, each term is rounded at most n + 1 times (Higham, gamma_n).
      const double bound = double(s.columns + 1) * kUnit * 1.01 * size;
      ASSERT_NEAR(out[std::size_t(t * (s.rows + 3) + r)], sum, bound) << r << " token " << t;
    }
}

/// The product of row `r` with the coded inputs of every token, and the sum of its terms' sizes.
void coded_reference(const Problem& p, std::int64_t r, std::vector<double>& sum,
                     std::vector<double>& size) {
  const std::int64_t columns = p.shape.columns;
  const Layout& layout = p.format.layout();
  Grid grid;
  Code codes[kMaxBlock];
  std::int8_t levels[kMaxBlock];
  sum.assign(std::size_t(p.shape.tokens), 0.0), size = sum;
  const int sub = std::min(layout.sub, 32);  // inputs have scales for 32
  for (std::int64_t j = 0; j < columns; j += sub) {
    const std::int64_t block = (r * columns + j) / p.format.block();
    const int at = int(j % p.format.block()), s = at / layout.sub;
    p.format.unpack(p.bytes.data() + std::size_t(block) * p.format.spec().bytes, grid, codes);
    p.format.levels(grid, codes, levels);
    for (std::int64_t t = 0; t < p.shape.tokens; ++t) {
      std::int64_t dot = 0, code_sum = 0;
      for (int i = 0; i < sub; ++i) {
        const int x = p.inputs->codes[std::size_t(t * columns + j + i)];
        dot += levels[at + i] * x, code_sum += x;
      }
      const double xs = p.inputs->scales[std::size_t((t * columns + j) / 32)];
      const double a = grid.scale[s] * xs * double(dot);
      const double b = grid.offset[s] * xs * double(code_sum);
      sum[std::size_t(t)] += a + b, size[std::size_t(t)] += std::fabs(a) + std::fabs(b);
    }
  }
}

float rounded_bf16(float x) { return bf16_to_f32(f32_to_bf16(x)); }

/// Weights and inputs as bf16, of each pair of columns the odd one first, float32 sums: to the bit.
void check_steps(const Problem& p) {
  if (p.matrix.view().packing == Packing::f32 || p.shape.columns % 2 != 0) return;
  const auto out = p.multiply(p.inputs->view);
  for (std::int64_t t = p.first_token(); t < p.shape.tokens; ++t)
    for (std::int64_t r = 0; r < p.shape.rows; ++r) {
      float sum = 0;
      for (std::int64_t j = 0; j < p.shape.columns; ++j) {
        const float w = p.decoded[std::size_t(r * p.shape.columns + (j ^ 1))];
        const float x = p.inputs->values[std::size_t(t * p.shape.columns + (j ^ 1))];
        sum = std::fma(rounded_bf16(w), rounded_bf16(x), sum);
      }
      ASSERT_EQ(out[std::size_t(t * (p.shape.rows + 3) + r)], sum) << r << " token " << t;
    }
}

void check_fast(const Problem& p) {
  if (p.matrix.view().d == nullptr) return check_steps(p);
  const auto out = p.multiply(p.inputs->view);
  std::vector<double> sum, size;
  // The integers of a sub-block are exact. Times their scale they are rounded once each as they are
  // added up in a block, as are the scales when multiplied, the term when it is formed, and sums in
  // at most two additions for each of the blocks.
  const int block = p.format.block(), subs = block / std::min(p.format.layout().sub, block);
  const double roundings = 2.0 * double(p.shape.columns / block) + subs + 3;
  for (std::int64_t r = 0; r < p.shape.rows; ++r) {
    coded_reference(p, r, sum, size);
    for (std::int64_t t = p.first_token(); t < p.shape.tokens; ++t)
      ASSERT_NEAR(out[std::size_t(t * (p.shape.rows + 3) + r)], sum[std::size_t(t)],
                  roundings * kUnit * 1.01 * size[std::size_t(t)])
          << r << " token " << t;
  }
}

TEST_P(KernelContract, DecodesWhatTheFormatDecodes) { for_shapes(check_decoding); }
TEST_P(KernelContract, ExactProduct) { for_shapes(check_exact); }
TEST_P(KernelContract, FastProduct) { for_shapes(check_fast); }
TEST_P(KernelContract, FastProductOfExtremesDoesNotOverflow) {
  if (GetParam().format->layout().scales == Layout::Scales::none) return;
  const std::int64_t block = std::max(32, GetParam().format->block());
  for (const std::int64_t tokens : {1, 2, 13})
    check_fast(Problem(GetParam(), {16, 2 * block, tokens, true}));
}

/// The integers are the same everywhere and sums have one order.
TEST_P(KernelContract, FastProductIsTheSameEverywhere) {
  const Case& mine = GetParam();
  for (const Kernel* other : kernel_registry()) {
    if (other->packing != Packing::f32 || !isa_runs(other->isa)) continue;
    SCOPED_TRACE(other->isa);
    for_shapes([&](const Problem& p) {
      if (p.matrix.view().d == nullptr) return;
      const Problem theirs(Case{mine.format, other->isa}, p.shape);
      ASSERT_EQ(p.multiply(p.inputs->view), theirs.multiply(theirs.inputs->view));
    });
  }
}

/// Packed weights can be kept: their bytes are all there is, and the same on every instruction set.
TEST_P(KernelContract, StorageIsAllThereIs) {
  for_shapes([](Problem p) {
    const auto bytes = p.matrix.storage();
    const auto copy = allocate_large(bytes.size());
    std::ranges::copy(bytes, copy.get());
    auto active = Matrix::pack(p.format, p.shape.rows, p.shape.columns, p.bytes, p.pool);
    ASSERT_TRUE(active) << active.error().message();
    ASSERT_TRUE(std::ranges::equal(bytes, active->storage()));
    auto again = Matrix::over(p.format, p.shape.rows, p.shape.columns, copy);
    ASSERT_TRUE(again) << again.error().message();
    p.matrix = *again;
    check_decoding(p);
  });
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const Format* format : all_formats())
    for (const Kernel* k : kernel_registry())
      if (k->packing == Packing::f32) all.push_back({format, k->isa});
  return all;
}

INSTANTIATE_TEST_SUITE_P(All, KernelContract, testing::ValuesIn(cases()), [](const auto& c) {
  return std::string(c.param.format->id()) + "_" + c.param.isa;
});

}  // namespace
}  // namespace nibble
