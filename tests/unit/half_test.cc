#include "base/half.h"

#include <gtest/gtest.h>

#include <cmath>

namespace nibble {
namespace {

TEST(Half, EveryFp16SurvivesTheRoundTrip) {
  for (std::uint32_t h = 0; h < 0x10000; ++h) {
    const float x = fp16_to_f32(std::uint16_t(h));
    if (std::isnan(x)) {
      EXPECT_TRUE(std::isnan(fp16_to_f32(f32_to_fp16(x))));
    } else {
      ASSERT_EQ(f32_to_fp16(x), h) << x;
    }
  }
}

TEST(Half, Fp16RoundsToNearestEven) {
  for (std::uint32_t h = 0; h < 0x7bff; ++h) {
    const float a = fp16_to_f32(std::uint16_t(h)), b = fp16_to_f32(std::uint16_t(h + 1));
    const float middle = (a + b) / 2;  // exact in float32
    ASSERT_EQ(f32_to_fp16(middle), h % 2 == 0 ? h : h + 1);
    ASSERT_EQ(f32_to_fp16(std::nextafter(middle, b)), h + 1);
    ASSERT_EQ(f32_to_fp16(std::nextafter(middle, a)), h);
  }
  EXPECT_EQ(f32_to_fp16(65519.996f), 0x7bff);
  EXPECT_EQ(f32_to_fp16(65520.0f), 0x7c00);
  EXPECT_EQ(f32_to_fp16(-1e30f), 0xfc00);
}

TEST(Half, Bf16RoundsToNearestEven) {
  EXPECT_EQ(f32_to_bf16(1.0f), 0x3f80);
  EXPECT_EQ(f32_to_bf16(std::bit_cast<float>(0x3f808000u)), 0x3f80);  // tie to even
  EXPECT_EQ(f32_to_bf16(std::bit_cast<float>(0x3f818000u)), 0x3f82);
  EXPECT_EQ(f32_to_bf16(std::bit_cast<float>(0x3f808001u)), 0x3f81);
  EXPECT_TRUE(std::isnan(bf16_to_f32(f32_to_bf16(std::bit_cast<float>(0x7f800001u)))));
}

}  // namespace
}  // namespace nibble
