#include "base/utf8.h"

#include <gtest/gtest.h>

namespace nibble {
namespace {

TEST(Utf8, WellFormedTextIsAccepted) {
  for (const char* text : {"", "a", "\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf",
                           "\xee\x80\x80", "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf", "a\xc3\xa9z"})
    EXPECT_TRUE(is_utf8(text)) << quote(text);
}

TEST(Utf8, OverlongSurrogateTooLargeAndCutOnesAreNot) {
  for (const char* text :
       {"\x80", "\xc0\x80", "\xc1\xbf", "\xc2", "\xc2z", "\xe0\x80\x80", "\xe0\x9f\xbf",
        "\xed\xa0\x80", "\xed\xbf\xbf", "\xe2\x82", "\xf0\x80\x80\x80", "\xf0\x8f\xbf\xbf",
        "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff", "a\xf0\x90\x80"})
    EXPECT_FALSE(is_utf8(text)) << quote(text);
}

TEST(Utf8, QuotingKeepsMessagesOnOneShortLine) {
  EXPECT_EQ(quote("blk.0"), "'blk.0'");
  EXPECT_EQ(quote("a\nb\x7f\xff\xc3\xa9"), "'a\\x0ab\\x7f\\xff\xc3\xa9'");
  const std::string quoted = quote(std::string(1000, 'x'));
  EXPECT_LT(quoted.size(), 130u);
  EXPECT_TRUE(quoted.ends_with("...'"));
}

}  // namespace
}  // namespace nibble
