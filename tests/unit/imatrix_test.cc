#include "container/imatrix.h"

#include <gmock/gmock.h>

#include <cmath>
#include <limits>

#include "support/checkpoints.h"
#include "support/temp_dir.h"

namespace nibble {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

Imatrix sample() {
  Imatrix imatrix;
  imatrix.entries["blk.0.attn_q.weight"] = {{0.5f, 0.0f, 2.0f}, {4}};
  imatrix.entries["blk.0.ffn_up_exps.weight"] = {{1, 2, 1, 1, 3, 4}, {8, 0, 2}};
  imatrix.chunk_count = 3;
  imatrix.chunk_size = 512;
  imatrix.datasets = {"a.txt", "b.txt"};
  return imatrix;
}

template <class T>
std::string raw(T value) {
  return {reinterpret_cast<const char*>(&value), sizeof(T)};
}

std::string legacy(const std::vector<float>& values, std::int32_t calls, const std::string& tail) {
  const std::string name = "blk.0.attn_q.weight";
  std::string file = raw(1) + raw(std::int32_t(name.size())) + name + raw(calls);
  file += raw(std::int32_t(values.size()));
  for (const float value : values) file += raw(value);
  return file + tail;
}

Result<Imatrix> parse(const std::string& file) {
  return parse_imatrix(std::as_bytes(std::span(file)));
}

TEST(Imatrix, GgufFormSurvivesTheRoundTrip) {
  const TempDir dir;
  ASSERT_TRUE(write_imatrix(dir / "i.gguf", sample()));
  EXPECT_TRUE(is_imatrix(dir / "i.gguf"));
  const auto read = read_imatrix(dir / "i.gguf");
  ASSERT_TRUE(read) << read.error().message();
  EXPECT_EQ(read->chunk_count, 3u);
  EXPECT_EQ(read->chunk_size, 512u);
  EXPECT_EQ(read->datasets, sample().datasets);
  ASSERT_EQ(read->entries.size(), 2u);
  for (const auto& [name, entry] : sample().entries) {
    ASSERT_TRUE(read->find(name));
    EXPECT_EQ(read->find(name)->mean_square, entry.mean_square);
    EXPECT_EQ(read->find(name)->count, entry.count);
  }
}

TEST(Imatrix, LegacyFormIsReadWithAndWithoutItsTail) {
  for (const std::string& tail : {std::string(), raw(7), raw(7) + raw(4) + "text"}) {
    const auto read = parse(legacy({2, 0, 6}, 4, tail));
    ASSERT_TRUE(read) << read.error().message();
    const ImatrixEntry* entry = read->find("blk.0.attn_q.weight");
    ASSERT_TRUE(entry);
    EXPECT_THAT(entry->mean_square, ElementsAre(0.5f, 0.0f, 1.5f));
    EXPECT_THAT(entry->count, ElementsAre(4.0f));
    EXPECT_EQ(read->chunk_count, tail.empty() ? 0u : 7u);
    EXPECT_EQ(read->datasets.size(), tail.size() > 4 ? 1u : 0u);
  }
}

TEST(Imatrix, WrongValuesAreRefused) {
  const float inf = std::numeric_limits<float>::infinity();
  for (const float value : {-1.0f, inf, std::nanf("")}) {
    const auto read = parse(legacy({1, value}, 2, ""));
    ASSERT_FALSE(read);
    EXPECT_THAT(read.error().message(), HasSubstr("at 1"));
    Imatrix wrong = sample();
    wrong.entries["blk.0.attn_q.weight"].mean_square[1] = value;
    const TempDir dir;
    EXPECT_FALSE(write_imatrix(dir / "i.gguf", wrong));
    EXPECT_EQ(dir.files(), 0u);
  }
  EXPECT_FALSE(parse(legacy({1}, -1, "")));
  EXPECT_FALSE(parse(legacy({}, 1, "")));
  EXPECT_FALSE(parse(legacy({1}, 1, raw(1) + raw(0) + "x")));
}

TEST(Imatrix, LegacyTruncatedAnywhereFails) {
  const std::string body = legacy({1, 2}, 1, ""), whole = body + raw(7) + raw(4) + "text";
  ASSERT_TRUE(parse(whole));
  for (std::size_t n = 0; n < whole.size(); ++n) {
    const bool ends_before_tail = n == body.size() || n == body.size() + 4;
    EXPECT_EQ(bool(parse(whole.substr(0, n))), ends_before_tail) << n;
  }
}

TEST(Imatrix, GgufFormChecksTypesAndCounts) {
  const TempDir dir;
  Metadata metadata;
  metadata.set("general.type", std::string("imatrix"));
  const auto refused = [&](const std::vector<Sample>& tensors, const char* reason) {
    ASSERT_TRUE(write_gguf(dir / "i.gguf", metadata, tensors));
    const auto read = read_imatrix(dir / "i.gguf");
    ASSERT_FALSE(read);
    EXPECT_THAT(read.error().message(), HasSubstr(reason));
  };
  refused({make_sample("x.in_sum2", "f32", {2, 3})}, "has no .counts");
  refused({make_sample("x.in_sum2", "f16", {2, 3}), make_sample("x.counts", "f32", {2})},
          "expected f32");
  refused({make_sample("x.in_sum2", "f32", {2, 3}), make_sample("x.counts", "f32", {3})},
          "2 matrices, but 3 counts");
  metadata.set("general.type", std::string("model"));
  refused({}, "expected 'imatrix'");
}

}  // namespace
}  // namespace nibble
