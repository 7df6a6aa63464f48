#include "calib/activations.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "support/temp_dir.h"

namespace nibble {
namespace {

std::vector<float> random_rows(std::size_t count) {
  std::mt19937 random(3);
  std::vector<float> out(count);
  for (float& value : out) value = float(random() % 1000) - 500;
  return out;
}

class ActivationsTest : public ::testing::TestWithParam<bool> {
 protected:
  std::string folder() const { return GetParam() ? (dir_ / ".") : std::string(); }
  TempDir dir_;
};

TEST_P(ActivationsTest, KeepsWhatWasWritten) {
  // 1000 rows of 96: neither rows nor windows end at pages.
  const std::vector<float> rows = random_rows(1000 * 96);
  auto made = Activations::create(1000, 96, folder());
  ASSERT_TRUE(made) << made.error().message();
  Activations activations = std::move(*made);
  for (std::size_t begin = 0; begin < 1000; begin += 125)
    activations.write(begin, std::span(rows).subspan(begin * 96, 125 * 96));
  std::vector<float> back(rows.size());
  for (std::size_t begin = 0; begin < 1000; begin += 50)
    activations.read(begin, std::span(back).subspan(begin * 96, 50 * 96));
  for (std::size_t i = 0; i < rows.size(); ++i)
    ASSERT_NEAR(back[i], rows[i], std::abs(rows[i]) / 256) << i;  // half a unit of 8 bits
  EXPECT_EQ(dir_.files(), 0u);  // nothing is left behind, whatever happens
}

INSTANTIATE_TEST_SUITE_P(Places, ActivationsTest, ::testing::Bool(),
                         [](const auto& place) { return place.param ? "File" : "Memory"; });

TEST(Activations, SaysWhereThereIsNoRoom) {
  const auto made = Activations::create(10, 10, "/nonexistent");
  ASSERT_FALSE(made);
  EXPECT_THAT(made.error().message(), ::testing::HasSubstr("/nonexistent"));
}

}  // namespace
}  // namespace nibble
