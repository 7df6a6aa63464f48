// What every format owes, checked on all of the registry.
#include "format/format.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <random>
#include <set>
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

  /// The codes of columns; of groups each point and each choice of signs, not every combination.
  std::vector<Code> all_codes() const {
    std::vector<Code> codes;
    const Codebook* book = layout.codebook;
    for (Code c = 0; c < (book ? Code(book->codes_a_point()) : format.level_values().size()); ++c)
      for (int i = 0; i < (book ? kGroup / book->width : 1); ++i) codes.push_back(c << (12 * i));
    for (Code signs = 0; book && book->signs != Codebook::Signs::none && signs < 256; ++signs)
      if (book->signs == Codebook::Signs::free || signs == even_signs(signs))
        codes.push_back(signs << 24);
    return codes;
  }

  /// All groups of a bank get the code.
  void set_code(std::vector<Code>& codes, std::size_t at, Code code) const {
    const std::size_t wide =
        layout.codebook ? std::size_t(layout.codebook->bank_columns / kGroup) : 1;
    const std::size_t begin = at / wide * wide;
    for (std::size_t i = begin; i < begin + wide; ++i) codes[i] = code;
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
  const auto levels = format.level_values();
  EXPECT_NE(layout.levels.empty(), layout.values.empty());
  for (std::size_t i = 1; i < levels.size(); ++i)
    EXPECT_LE(levels[i - 1], levels[i]);  // zero may have two codes
  EXPECT_EQ(spec.grain, layout.codebook ? kGroup : 1);
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
    // Digits of base 3 do not fill bytes: several mean the same.
    const bool fills = layout.codebook || std::has_single_bit(format.level_values().size());
    if (fills || format.level_values().empty()) {
      ASSERT_EQ(packed, bytes);
    }
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

TEST_P(FormatContract, CodesOfBytesAreTheSame) {
  if (layout.codebook || layout.scales == Layout::Scales::none) return;
  std::vector<Code> codes(std::size_t(format.block()));
  std::vector<std::uint8_t> bytes(codes.size());
  for (int trial = 0; trial < 50; ++trial) {
    const auto block = random_block();
    Grid grid, stored;
    format.unpack(block.data(), grid, codes.data());
    format.unpack_bytes(block.data(), stored, bytes.data());
    EXPECT_TRUE(std::ranges::equal(codes, bytes));
    EXPECT_TRUE(same(grid.d, stored.d));
    EXPECT_TRUE(same(grid.dmin, stored.dmin));
    EXPECT_EQ(grid.sub_scale, stored.sub_scale);
    EXPECT_EQ(grid.sub_min, stored.sub_min);
  }
}

// Every value of every field survives, not only random ones: each code at each column or group,
// each integer factor in each sub-block.
TEST_P(FormatContract, EveryFieldSurvivesAlone) {
  if (format.level_values().empty()) return;
  std::vector<Code> codes(std::size_t(format.block() / format.spec().grain)), again(codes.size());
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
  Grid least;
  least.d = 0.25f;
  for (int s = 0; s < format.block() / layout.sub; ++s)
    least.sub_scale[s] = std::int16_t(std::max(layout.scale_min, 0));
  const auto all = all_codes();
  for (std::size_t at = 0; at < codes.size(); ++at) {
    for (const Code c : all) set_code(codes, at, c), check(least);
    set_code(codes, at, 0);
  }
  if (layout.scales != Layout::Scales::nested) return;
  for (int s = 0; s < format.block() / layout.sub; ++s) {
    Grid grid = least;
    for (int q = layout.scale_min; q <= layout.scale_max; q += layout.scale_step)
      grid.sub_scale[s] = std::int16_t(q), check(grid);
    for (int q = 0; q <= layout.offset_max; ++q) grid.sub_min[s] = std::int16_t(q), check(grid);
  }
}

// What the search in round/ makes of a codebook.
TEST_P(FormatContract, CodebookIsSound) {
  const Codebook* book = layout.codebook;
  if (!book) return;
  EXPECT_TRUE(book->width == 4 || book->width == 8);
  EXPECT_LE(book->codes_a_point(), 1 << 12);
  EXPECT_LE(book->digit_bits * book->width, 16);
  EXPECT_LE(book->digits(), 1 << book->digit_bits);
  EXPECT_TRUE(book->banks == 1 || (book->banks == 2 && book->width == kGroup));
  EXPECT_TRUE(book->bank_columns == kGroup || book->bank_columns == layout.sub);
  for (const std::uint16_t point : book->points)
    for (int i = 0; i < book->width; ++i)
      ASSERT_LT(point >> (book->digit_bits * i) & ((1 << book->digit_bits) - 1), book->digits());
  std::set<std::int8_t> seen;
  for (const Code c : all_codes()) {
    std::int8_t level[kGroup];
    book->levels(c, level);
    seen.insert(level, level + kGroup);
    if (book->signs != Codebook::Signs::none)
      for (const std::int8_t size : level) seen.insert(std::int8_t(-size));
  }
  EXPECT_TRUE(std::ranges::equal(seen, layout.levels));
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
  const std::size_t grain = std::size_t(format.spec().grain);
  std::vector<Code> codes(std::size_t(format.block()) / grain);
  std::vector<std::int8_t> levels(std::size_t(format.block()));
  const auto bytes = random_block();
  Grid grid;
  format.unpack(bytes.data(), grid, codes.data());
  format.levels(grid, codes.data(), levels.data());
  for (std::size_t i = 0; i < codes.size(); ++i) {
    std::int8_t expected[kGroup];
    if (layout.codebook)
      layout.codebook->levels(codes[i], expected);
    else
      expected[0] = layout.levels[codes[i]];
    for (std::size_t k = 0; k < grain; ++k) ASSERT_EQ(levels[i * grain + k], expected[k]);
  }
}

TEST_P(FormatContract, RoundIsNearest) {
  if (format.level_values().empty()) return;
  const int grain = format.spec().grain;
  std::vector<Code> codes(std::size_t(format.block() / grain));
  std::normal_distribution<float> normal;
  const std::vector<Code> all = all_codes();
  for (int trial = 0; trial < 20; ++trial) {
    const auto bytes = random_block();
    Grid grid;
    format.unpack(bytes.data(), grid, codes.data());
    if (!std::isfinite(grid.d) || !std::isfinite(grid.dmin)) continue;
    if (layout.number != Layout::Number::fp16) grid.d = 0.25f, format.make_effective(grid);
    for (int i = 0; i < format.block(); i += grain * grain) {
      float x[kGroup], q[kGroup], other[kGroup];
      for (float& w : x) w = normal(random) * 8 * grid.scale[i / layout.sub];
      const auto distance = [&](const float* y) {
        double sum = 0;
        for (int k = 0; k < grain; ++k) sum += (double(x[k]) - y[k]) * (double(x[k]) - y[k]);
        return sum;
      };
      const Code code = format.round(grid, i, x);
      EXPECT_GE(code, Code(layout.first_code));
      format.value(grid, i, code, q);
      // Float32 sums of 8 squares err by less than 9 roundings of 2^-24 each.
      const double slack = grain > 1 ? 1 + 18 * 0x1p-24 : 1;
      for (Code c : all) {
        if (c < Code(layout.first_code)) continue;
        // Of groups: another point, other signs, or both.
        for (const Code mask : {0xffffffffu, 0xffffffu, 0xff000000u}) {
          if (grain == 1 && mask != 0xffffffffu) continue;
          const Code mixed = (c & mask) | (code & ~mask);
          format.value(grid, i, mixed, other);
          ASSERT_LE(distance(q), distance(other) * slack) << x[0];
          if (grain == 1) {
            ASSERT_TRUE(c >= code || distance(q) < distance(other)) << "tie not to the lower";
          }
        }
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

INSTANTIATE_TEST_SUITE_P(All, FormatContract, testing::ValuesIn(all_formats()),
                         [](const auto& format) { return std::string(format.param->id()); });

}  // namespace
}  // namespace nibble
