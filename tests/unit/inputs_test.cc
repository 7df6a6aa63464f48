// Inputs rounded as checkpoints say: grids, scales, outliers.
#include "kernel/inputs.h"

#include <gmock/gmock.h>

#include <cmath>
#include <numeric>
#include <random>
#include <utility>

#include "format/bits.h"
#include "kernel/matrix.h"

namespace nibble {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using Kind = InputRounding::Kind;

std::vector<float> rounded(const InputRounding& rounding, const std::vector<float>& values,
                           std::size_t tokens = 1, int threads = 1) {
  ThreadPool pool(threads);
  std::vector<float> out(values.size());
  round_inputs(rounding, values.data(), std::int64_t(tokens), std::int64_t(values.size() / tokens),
               out.data(), pool);
  return out;
}

std::vector<float> random_values(std::size_t n) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  std::vector<float> out(n);
  for (float& x : out) x = normal(random);
  return out;
}

/// Its neighbour with the last bit even where two are as near.
float nearest_by_search(float x, const std::vector<float>& sizes) {
  std::size_t best = 0;
  for (std::size_t i = 1; i < sizes.size(); ++i) {
    const float before = std::fabs(std::fabs(x) - sizes[best]),
                now = std::fabs(std::fabs(x) - sizes[i]);
    if (now < before || (now == before && i % 2 == 0)) best = i;
  }
  return std::copysign(sizes[best], x);
}

TEST(Inputs, IntegersTakeTheLargestTo127AndAHalf) {
  // The scale is 1: ties to even, and what is beyond the grid is at its end.
  EXPECT_THAT(rounded({.kind = Kind::int8}, {-127.5f, 0.5f, 1.5f, -2.5f, 3.49f, 127.5f}),
              ElementsAre(-128, 0, 2, -2, 3, 127));
  EXPECT_THAT(rounded({.kind = Kind::int8, .scale = 0.5f}, {1.2f, -100, 100}),
              ElementsAre(1, -64, 63.5f));
}

TEST(Inputs, EveryTokenHasItsScale) {
  const auto out = rounded({.kind = Kind::int8}, {127.5f, 1.4f, 1275, 14, 0, 0}, 3);
  EXPECT_THAT(out, ElementsAre(127, 1, 1270, 10, 0, 0));
}

TEST(Inputs, EightBitFloatsAreTheNearest) {
  std::vector<float> sizes;
  for (int i = 0; i < 127; ++i) sizes.push_back(e4m3_to_f32(std::uint8_t(i)));
  std::vector<float> values = sizes, expected;
  for (std::size_t i = 0; i + 1 < sizes.size(); ++i) {
    const float middle = (sizes[i] + sizes[i + 1]) / 2;
    values.insert(values.end(),
                  {middle, -middle, std::nextafter(middle, 0.0f), std::nextafter(middle, 500.0f)});
  }
  for (const float x : values) expected.push_back(nearest_by_search(x, sizes));
  EXPECT_THAT(rounded({.kind = Kind::fp8}, values), ElementsAreArray(expected));
  EXPECT_THAT(rounded({.kind = Kind::fp8, .scale = 2}, {2000, -2000, 19}),
              ElementsAre(896, -896, 20));
}

TEST(Inputs, EightBitFloatsMayHaveAScaleAGroup) {
  EXPECT_THAT(rounded({.kind = Kind::fp8, .group = 2}, {448, 19, 896, 19, 4480}),
              ElementsAre(448, 20, 896, 20, 4480));
}

TEST(Inputs, FourBitFloatsHaveAScaleAGroup) {
  const std::vector<float> sizes = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
  std::vector<float> values = {6,    -6,   0.25f, 0.75f, -1.25f, 1.75f,
                               2.5f, 3.5f, 5,     0.3f,  -4.9f,  5.1f};
  std::vector<float> expected;
  for (const float x : values) expected.push_back(nearest_by_search(x, sizes));
  values.resize(16), expected.resize(16);
  for (std::size_t i = 0; i < 16; ++i)
    values.push_back(values[i] / 64), expected.push_back(expected[i] / 64);
  EXPECT_THAT(rounded({.kind = Kind::fp4, .scale = 16}, values), ElementsAreArray(expected));
  // 2.2 / 6 * 2 is .733, of E4M3 that is .75: the scale is .375.
  EXPECT_THAT(rounded({.kind = Kind::fp4, .scale = 2}, {2.2f, 1.5f, 0.2f}),
              ElementsAre(2.25f, 1.5f, 0.1875f));
  // A scale below the least E4M3.
  EXPECT_THAT(rounded({.kind = Kind::fp4, .scale = 1}, {0.001f, 0}), Each(0));
}

TEST(Inputs, OutliersKeepTheirColumns) {
  const InputRounding rounding{.kind = Kind::llm_int8, .threshold = 6};
  // Column 1 has an outlier in the first token: so 3.01 and 5 stay too. The 5 still sets a scale.
  const auto out = rounded(rounding, {1.27f, 6, 0.634f, 1.003f, 3.01f, 4, 0.5f, 5, 0.1f}, 3);
  const float scales[] = {fp16_to_f32(f32_to_fp16(1.27f)) / 127, 4.0f / 127, 5.0f / 127};
  const std::vector<float> expected = {127 * scales[0], 6, 63 * scales[0], 32 * scales[1], 3.01f, 4,
                                       13 * scales[2],  5, 3 * scales[2]};
  EXPECT_THAT(out, ::testing::Pointwise(::testing::FloatEq(), expected));
  // What rounds to the threshold in fp16 is an outlier, and stays as it was.
  EXPECT_EQ(rounded(rounding, {5.9999f, 1})[0], 5.9999f);
  EXPECT_NE(rounded(rounding, {5.9f, 1.001f})[1], 1.001f);
  EXPECT_FLOAT_EQ(rounded({.kind = Kind::llm_int8}, {127, 1.4f})[1], 1);
}

TEST(Inputs, NaNIsSeenAndThreadsDoNotMatter) {
  std::vector<float> values = random_values(64 * 96);
  values[5 * 96 + 7] = 9;
  for (const InputRounding& rounding : {InputRounding{.kind = Kind::int8},
                                        {.kind = Kind::fp8},
                                        {.kind = Kind::fp4, .scale = 100},
                                        {.kind = Kind::llm_int8, .threshold = 6}}) {
    const auto out = rounded(rounding, values, 64);
    EXPECT_EQ(out, rounded(rounding, values, 64, 3));
    EXPECT_NE(out, values);
    EXPECT_TRUE(std::isnan(rounded(rounding, {1, NAN})[1]));
  }
  EXPECT_EQ(rounded({}, values, 64), values);
}

/// Integers times their scale are what float32 makes of the same inputs, and one that is not finite
/// poisons its token.
TEST(Inputs, IntegersAreThoseOfTheGrid) {
  constexpr std::size_t kTokens = 3, kColumns = 64;
  std::vector<float> values = random_values(kTokens * kColumns);
  values[5] = -127.5f;  // becomes -128, the scale of the token being 1
  ThreadPool pool(2);
  std::vector<std::int8_t> codes(values.size());
  std::vector<float> scales(values.size() / 32), back(values.size());
  std::vector<std::int32_t> sums(values.size() / 16);
  for (const InputRounding& rounding :
       {InputRounding{.kind = Kind::int8}, InputRounding{.kind = Kind::int8, .scale = 0.02f}}) {
    const auto round = [&] {
      round_to_integers(rounding, values.data(), kTokens, kColumns, codes.data(), scales.data(),
                        sums.data(), pool);
    };
    round();
    for (std::size_t i = 0; i < back.size(); ++i) back[i] = scales[i / 32] * float(codes[i]);
    EXPECT_EQ(back, rounded(rounding, values, kTokens));
    EXPECT_EQ(codes[5], -128);
    for (std::size_t i = 0; i < sums.size(); ++i)
      EXPECT_EQ(sums[i], std::accumulate(&codes[16 * i], &codes[16 * i] + 16, 0));
    for (const float bad : {NAN, INFINITY}) {
      const float good = std::exchange(values[70], bad);
      round();
      values[70] = good;
      EXPECT_TRUE(std::isnan(scales[2]) && std::isnan(scales[3]));
      EXPECT_FALSE(std::isnan(scales[1]) || std::isnan(scales[4]));
    }
  }
}

/// A product of a matrix that rounds its inputs is one with the rounded inputs, with either
/// precision, and does not change what the next matrix of the tap sees.
TEST(Inputs, MatricesSeeTheirOwn) {
  constexpr std::int64_t kTokens = 3, kColumns = 64, kRows = 2;
  const Format& format = *find_format("q8_0");
  std::vector<std::byte> bytes(format.row_bytes(kColumns) * kRows);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = std::byte(i * 37);
  for (std::size_t i = 0; i < bytes.size(); i += format.spec().bytes) put_fp16(&bytes[i], 0.01f);
  const auto values = random_values(kTokens * kColumns);
  ThreadPool pool(2);
  const auto pack = [&](const InputRounding& rounding) {
    Matrix matrix = *Matrix::pack(format, kRows, kColumns, bytes, pool);
    matrix.set_inputs(rounding);
    return matrix;
  };
  const auto product = [&](Input& input, const InputRounding& rounding) {
    std::vector<float> out(kTokens * kRows);
    input.multiply(pack(rounding), nullptr, out.data(), kRows, pool);
    return out;
  };
  for (const Precision precision : {Precision::exact, Precision::fast}) {
    Input input(values.data(), kTokens, kColumns, precision);
    Input alone(values.data(), kTokens, kColumns, precision);
    for (const Kind kind : {Kind::fp8, Kind::none, Kind::int8, Kind::fp8}) {
      const auto inputs = rounded({.kind = kind}, values, kTokens);
      Input exact(inputs.data(), kTokens, kColumns, Precision::exact);
      const auto found = product(input, {.kind = kind});
      const auto wanted = product(kind == Kind::none ? alone : exact, {});
      // Integers are added exactly, float32 in 64 steps: of sizes below 1.28 * 4 each.
      const float tolerance = kind == Kind::int8 ? 64 * 0x1p-24f * 64 * 1.28f * 4 : 0;
      EXPECT_THAT(found, ::testing::Pointwise(::testing::FloatNear(tolerance), wanted));
    }
  }
}

/// Many tokens are multiplied in blocks, by several threads: each gets what it gets alone.
TEST(Inputs, BlocksOfTokensGetWhatEachGetsAlone) {
  constexpr std::int64_t kTokens = 2 * Input::kTokenBlock + 5, kColumns = 64, kRows = 37;
  const auto values = random_values(kTokens * kColumns);
  ThreadPool pool(3);
  for (const char* id : {"f16", "q8_0"}) {
    const Format& format = *find_format(id);
    std::vector<std::byte> bytes(format.row_bytes(kColumns) * kRows);
    const auto weights = random_values(bytes.size());
    for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = std::byte(i * 37);
    for (std::size_t i = 0; i < bytes.size(); i += format.spec().bytes)
      put_fp16(&bytes[i], weights[i]);
    const Matrix matrix = *Matrix::pack(format, kRows, kColumns, bytes, pool);
    for (const Precision precision : {Precision::exact, Precision::fast}) {
      std::vector<float> all(kTokens * kRows), each(kTokens * kRows);
      Input(values.data(), kTokens, kColumns, precision)
          .multiply(matrix, nullptr, all.data(), kRows, pool);
      for (std::int64_t t = 0; t < kTokens; ++t)
        Input(values.data() + t * kColumns, 1, kColumns, precision)
            .multiply(matrix, nullptr, each.data() + t * kRows, kRows, pool);
      EXPECT_EQ(all, each) << id;
    }
  }
}

/// LLM.int8's outliers in one sequence do not reach the others of a batch.
TEST(Inputs, SequencesAreRoundedByThemselves) {
  constexpr std::int64_t kColumns = 64;
  auto values = random_values(5 * kColumns);
  values[1 * kColumns + 7] = 9;  // an outlier in the first of two sequences
  ThreadPool pool(1);
  Matrix matrix = *Matrix::pack(*find_format("f32"), 1, kColumns,
                                std::as_bytes(std::span(values).first(kColumns)), pool);
  matrix.set_inputs({.kind = Kind::llm_int8, .threshold = 6});
  const auto product = [&](std::size_t first, std::int64_t tokens,
                           std::span<const std::int64_t> sequences) {
    std::vector<float> out(static_cast<std::size_t>(tokens));
    Input(values.data() + first * kColumns, tokens, kColumns, Precision::exact, sequences)
        .multiply(matrix, nullptr, out.data(), 1, pool);
    return out;
  };
  auto apart = product(0, 2, {});
  const auto second = product(2, 3, {});
  apart.insert(apart.end(), second.begin(), second.end());
  EXPECT_EQ(product(0, 5, std::vector<std::int64_t>{2, 3}), apart);
  EXPECT_NE(product(0, 5, {}), apart);
}

TEST(Inputs, ReplacedColumnsAndRoundingGoTogether) {
  const auto values = random_values(64), weights = random_values(64);
  std::vector<std::uint32_t> order(64);
  for (std::uint32_t j = 0; j < 64; ++j) order[j] = 63 - j;
  std::vector<float> turned(weights.rbegin(), weights.rend());
  ThreadPool pool(1);
  float plain = 0, moved = 0;
  for (const bool moves : {false, true}) {
    Matrix matrix = *Matrix::pack(*find_format("f32"), 1, 64,
                                  std::as_bytes(std::span(moves ? turned : weights)), pool);
    matrix.set_inputs({.kind = Kind::int8});
    if (moves) matrix.set_order(std::make_shared<const std::vector<std::uint32_t>>(order));
    Input(values.data(), 1, 64, Precision::exact)
        .multiply(matrix, nullptr, moves ? &moved : &plain, 1, pool);
  }
  EXPECT_NEAR(plain, moved, 1e-5);
}

}  // namespace
}  // namespace nibble
