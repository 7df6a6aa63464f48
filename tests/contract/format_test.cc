// What every format owes, checked on all of the registry.
#include "format/format.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace nibble {
namespace {

bool same(float a, float b) {
  return (std::isnan(a) && std::isnan(b)) ||
         std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b);
}

class FormatContract : public testing::TestWithParam<const Format*> {
 protected:
  const Format& format = *GetParam();
  const Layout& layout = format.layout();
  std::mt19937 random{7};

  std::vector<std::byte> random_block() {
    std::vector<std::byte> bytes(format.spec().bytes);
    for (std::byte& b : bytes) b = std::byte(random() & 255);
    return bytes;
  }
};

TEST_P(FormatContract, SpecIsSound) {
  const auto& spec = format.spec();
  EXPECT_LE(spec.block, kMaxBlock);
  EXPECT_EQ(spec.block % spec.grain, 0);
  EXPECT_EQ(find_format(spec.id), &format);
  if (spec.ggml_type >= 0) {
    EXPECT_EQ(find_format_by_ggml_type(spec.ggml_type), &format);
  }
  if (layout.scales == Layout::Scales::none) return;
  EXPECT_EQ(spec.block % layout.sub, 0);
  EXPECT_LE(spec.block / layout.sub, kMaxSubBlocks);
  for (std::size_t i = 1; i < layout.levels.size(); ++i)
    EXPECT_LT(layout.levels[i - 1], layout.levels[i]);
}

TEST_P(FormatContract, UnpackAfterPackIsTheIdentity) {
  std::vector<Code> codes(std::size_t(format.block())), again(codes.size());
  for (int trial = 0; trial < 200; ++trial) {
    const auto bytes = random_block();
    Grid grid, copy;
    format.unpack(bytes.data(), grid, codes.data());
    if (!std::isfinite(grid.d) || !std::isfinite(grid.dmin)) continue;  // NaN payloads may change
    std::vector<std::byte> packed(bytes.size());
    format.pack(grid, codes.data(), packed.data());
    ASSERT_EQ(packed, bytes);
    format.unpack(packed.data(), copy, again.data());
    ASSERT_EQ(codes, again);
    EXPECT_EQ(grid.sub_scale, copy.sub_scale);
    EXPECT_EQ(grid.sub_min, copy.sub_min);
    for (int s = 0; s < kMaxSubBlocks; ++s) {
      EXPECT_TRUE(same(grid.scale[s], copy.scale[s]));
      EXPECT_TRUE(same(grid.offset[s], copy.offset[s]));
    }
  }
}

// Every value of every field survives, not only random ones: each code at each column, each integer
// factor in each sub-block.
TEST_P(FormatContract, EveryFieldSurvivesAlone) {
  if (layout.levels.empty()) return;
  std::vector<Code> codes(std::size_t(format.block())), again(codes.size());
  std::vector<std::byte> bytes(format.spec().bytes);
  const auto check = [&](const Grid& grid) {
    Grid copy;
    format.pack(grid, codes.data(), bytes.data());
    format.unpack(bytes.data(), copy, again.data());
    ASSERT_EQ(codes, again);
    ASSERT_EQ(grid.sub_scale, copy.sub_scale);
    ASSERT_EQ(grid.sub_min, copy.sub_min);
    ASSERT_EQ(grid.d, copy.d);
    ASSERT_EQ(grid.dmin, copy.dmin);
  };
  for (std::size_t column = 0; column < codes.size(); ++column) {
    for (Code c = 0; c < layout.levels.size(); ++c) codes[column] = c, check(Grid{});
    codes[column] = 0;
  }
  if (layout.scales != Layout::Scales::nested) return;
  for (int s = 0; s < format.block() / layout.sub; ++s) {
    Grid grid;
    grid.d = 0.5f;
    for (int q = layout.scale_min; q <= layout.scale_max; ++q)
      grid.sub_scale[s] = std::int16_t(q), check(grid);
    for (int q = 0; q <= layout.offset_max; ++q) grid.sub_min[s] = std::int16_t(q), check(grid);
  }
}

TEST_P(FormatContract, DecodeIsUnpackAndValue) {
  constexpr int kBlocks = 50;
  std::vector<std::byte> bytes;
  for (int b = 0; b < kBlocks; ++b) {
    const auto block = random_block();
    bytes.insert(bytes.end(), block.begin(), block.end());
  }
  std::vector<float> decoded(std::size_t(format.block() * kBlocks));
  format.decode(bytes.data(), kBlocks, decoded.data());
  std::vector<Code> codes(std::size_t(format.block()));
  for (int b = 0; b < kBlocks; ++b) {
    Grid grid;
    format.unpack(bytes.data() + std::size_t(b) * format.spec().bytes, grid, codes.data());
    for (int i = 0; i < format.block(); i += format.spec().grain) {
      float value[kMaxBlock];
      format.value(grid, i, codes[std::size_t(i / format.spec().grain)], value);
      for (int k = 0; k < format.spec().grain; ++k)
        ASSERT_TRUE(same(value[k], decoded[std::size_t(b * format.block() + i + k)]));
    }
  }
}

TEST_P(FormatContract, LevelsAreThoseOfTheCodes) {
  if (layout.levels.empty()) return;
  std::vector<Code> codes(std::size_t(format.block()));
  std::vector<std::int8_t> levels(codes.size());
  const auto bytes = random_block();
  Grid grid;
  format.unpack(bytes.data(), grid, codes.data());
  format.levels(grid, codes.data(), levels.data());
  for (std::size_t i = 0; i < codes.size(); ++i) ASSERT_EQ(levels[i], layout.levels[codes[i]]);
}

TEST_P(FormatContract, RoundIsNearest) {
  if (layout.levels.empty()) return;
  std::vector<Code> codes(std::size_t(format.block()));
  std::normal_distribution<float> normal;
  for (int trial = 0; trial < 20; ++trial) {
    const auto bytes = random_block();
    Grid grid;
    format.unpack(bytes.data(), grid, codes.data());
    if (!std::isfinite(grid.d) || !std::isfinite(grid.dmin)) continue;
    for (int i = 0; i < format.block(); ++i) {
      const float x = normal(random) * 8 * grid.scale[i / layout.sub];
      float q, other;
      const Code code = format.round(grid, i, &x);
      EXPECT_GE(code, Code(layout.first_code));
      format.value(grid, i, code, &q);
      for (Code c = Code(layout.first_code); c < layout.levels.size(); ++c) {
        format.value(grid, i, c, &other);
        ASSERT_LE(std::fabs(x - q), std::fabs(x - other)) << x;
        ASSERT_TRUE(c >= code || std::fabs(x - q) < std::fabs(x - other)) << "tie not to the lower";
      }
    }
  }
}

TEST_P(FormatContract, PlainValuesRoundToNeighbours) {
  if (layout.scales != Layout::Scales::none) return;
  const float inf = std::numeric_limits<float>::infinity();
  Grid grid;
  for (const float x : {0.0f, -0.0f, 1.0f, -2.5f, 1e-3f, 3e-41f, 6e-8f, 1e30f, inf, -inf}) {
    float q;
    format.value(grid, 0, format.round(grid, 0, &x), &q);
    EXPECT_EQ(std::signbit(q), std::signbit(x));
    // Half a step of 7 bits is relative 2^-8 (bf16), fp16 goes down to steps of 2^-24 and up to
    // 65504.
    if (std::isinf(q)) {
      EXPECT_GT(std::fabs(x), 65504);
    } else {
      EXPECT_LE(std::fabs(q - x), std::max(std::fabs(x) * 0x1p-8f, 0x1p-25f));
    }
  }
  const float nan = std::numeric_limits<float>::quiet_NaN();
  float q;
  format.value(grid, 0, format.round(grid, 0, &nan), &q);
  EXPECT_TRUE(std::isnan(q));
}

INSTANTIATE_TEST_SUITE_P(All, FormatContract,
                         testing::ValuesIn(format_registry().begin(), format_registry().end()),
                         [](const auto& format) { return std::string(format.param->id()); });

}  // namespace
}  // namespace nibble
