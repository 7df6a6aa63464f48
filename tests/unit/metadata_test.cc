#include "container/metadata.h"

#include <gmock/gmock.h>

#include <limits>

namespace nibble {
namespace {

using ::testing::HasSubstr;

template <class T>
void expect_error(const Result<T>& result, const char* reason) {
  ASSERT_FALSE(result);
  EXPECT_THAT(result.error().message(), HasSubstr(reason));
}

TEST(Metadata, WholeNumbersOfAnyTypeThatFit) {
  Metadata metadata;
  metadata.set("u8", std::uint8_t(200));
  metadata.set("i64", std::int64_t(5));
  metadata.set("u64", ~std::uint64_t(0));
  EXPECT_EQ(metadata.uint("u8"), 200u);
  EXPECT_EQ(metadata.uint("i64"), 5u);
  EXPECT_EQ(metadata.uint("u64"), ~std::uint64_t(0));
  metadata.set("i64", std::int64_t(-5));
  metadata.set("text", std::string("5"));
  metadata.set("flag", true);
  metadata.set("real", 5.0f);
  for (const char* key : {"i64", "text", "flag", "real"})
    expect_error(metadata.uint(key), "is not a whole number");
  expect_error(metadata.uint("none"), "key 'none' is missing");
  EXPECT_EQ(metadata.uint_or("none", 7), 7u);
  expect_error(metadata.uint_or("text", 7), "is not a whole number");
}

TEST(Metadata, NumbersAreFinite) {
  Metadata metadata;
  metadata.set("real", 0.5f);
  metadata.set("whole", std::int8_t(-3));
  EXPECT_EQ(metadata.number("real"), 0.5);
  EXPECT_EQ(metadata.number("whole"), -3.0);
  EXPECT_EQ(metadata.number_or("none", 2.5), 2.5);
  metadata.set("real", std::numeric_limits<float>::quiet_NaN());
  expect_error(metadata.number("real"), "is not a finite number");
  metadata.set("real", std::numeric_limits<double>::infinity());
  expect_error(metadata.number("real"), "is not a finite number");
}

TEST(Metadata, TextsAndFlags) {
  Metadata metadata;
  metadata.set("text", std::string("x"));
  metadata.set("flag", false);
  EXPECT_EQ(metadata.text("text"), "x");
  EXPECT_EQ(metadata.text_or("none", "y"), "y");
  expect_error(metadata.text("flag"), "is not a string");
  EXPECT_EQ(metadata.flag_or("flag", true), false);
  EXPECT_EQ(metadata.flag_or("none", true), true);
  expect_error(metadata.flag_or("text", true), "is not true or false");
}

TEST(Metadata, KeysStayUniqueAndInOrder) {
  Metadata metadata;
  metadata.set("a", true);
  metadata.set("b", true);
  metadata.set("a", false);
  ASSERT_EQ(metadata.entries().size(), 2u);
  EXPECT_EQ(metadata.entries()[0], (Metadata::Entry{"a", false}));
  metadata.erase("a");
  EXPECT_EQ(metadata.find("a"), nullptr);
  expect_error(Metadata::from({{"x", true}, {"y", true}, {"x", true}}), "key 'x' occurs twice");
}

}  // namespace
}  // namespace nibble
