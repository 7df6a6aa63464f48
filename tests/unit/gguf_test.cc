#include <gmock/gmock.h>
#include <sys/resource.h>

#include <csignal>
#include <filesystem>

#include "base/file.h"
#include "container/gguf_parse.h"
#include "support/checkpoints.h"
#include "support/temp_dir.h"

namespace nibble {
namespace {

using ::testing::HasSubstr;

std::vector<Sample> some_tensors() {
  return {make_sample("vector", "f32", {5}), make_sample("matrix", "q4_0", {3, 64}),
          make_sample("half", "f16", {2, 3, 7}), make_sample("brain", "bf16", {1, 2, 3, 4})};
}

TEST(Gguf, EveryTypeAndTensorSurvivesTheRoundTrip) {
  const TempDir dir;
  const auto samples = some_tensors();
  const auto paths = write_gguf(dir / "m.gguf", all_types(), samples);
  ASSERT_TRUE(paths) << paths.error().message();
  EXPECT_EQ(*paths, std::vector{dir / "m.gguf"});
  const auto source = open_source(dir / "m.gguf");
  ASSERT_TRUE(source) << source.error().message();
  EXPECT_EQ((*source)->metadata().entries(), all_types().entries());
  expect_same(**source, samples);
  EXPECT_EQ((*source)->find("half"), std::size_t(2));
  EXPECT_EQ((*source)->find("none"), std::nullopt);
}

TEST(Gguf, AlignmentIsKept) {
  const TempDir dir;
  for (const std::uint32_t alignment : {1u, 8u, 4096u}) {
    Metadata metadata;
    metadata.set("general.alignment", alignment);
    ASSERT_TRUE(write_gguf(dir / "m.gguf", metadata, some_tensors()));
    const std::string file = read_file(dir / "m.gguf");
    const auto header = parse_gguf(std::as_bytes(std::span(file)));
    ASSERT_TRUE(header) << header.error().message();
    EXPECT_EQ(header->alignment, alignment);
    for (const std::uint64_t offset : header->offsets) EXPECT_EQ(offset % alignment, 0u);
    EXPECT_EQ(file.size() % alignment, 0u);
  }
}

TEST(Gguf, SizeIsKnownBeforeWritingAndMetadataCanBeExchanged) {
  const TempDir dir;
  const auto samples = some_tensors();
  for (const std::uint64_t split : {0, 132}) {
    const WriteOptions options{.split_bytes = split};
    Metadata metadata = all_types();
    metadata.set("hash", std::string("0000"));
    const auto writer = create_gguf(dir / "m.gguf", metadata, infos(samples), options);
    ASSERT_TRUE(writer) << writer.error().message();
    for (std::size_t i = 0; i < samples.size(); ++i)
      ASSERT_TRUE((*writer)->write(i, std::as_bytes(std::span(samples[i].data))));
    for (const std::string& part : (*writer)->parts()) EXPECT_TRUE(std::filesystem::exists(part));
    metadata.set("hash", std::string("cafe"));
    ASSERT_TRUE((*writer)->replace(metadata));
    Metadata longer = metadata;
    longer.set("hash", std::string(100, 'x'));
    EXPECT_FALSE((*writer)->replace(longer));
    std::uint64_t bytes = 0;
    const auto paths = (*writer)->finish();
    ASSERT_TRUE(paths) << paths.error().message();
    for (const std::string& path : *paths) bytes += std::filesystem::file_size(path);
    EXPECT_EQ(gguf_bytes(metadata, infos(samples), options).value(), bytes);
    const auto source = open_source(split ? dir / "m-00001-of-00002.gguf" : dir / "m.gguf");
    ASSERT_TRUE(source) << source.error().message();
    EXPECT_EQ((*source)->metadata().entries(), metadata.entries());
    expect_same(**source, samples);
  }
}

TEST(Gguf, SplitOpensFromAnyPart) {
  const TempDir dir;
  const auto samples = some_tensors();
  const auto paths = write_gguf(dir / "m.gguf", all_types(), samples, {.split_bytes = 132});
  ASSERT_TRUE(paths) << paths.error().message();
  ASSERT_EQ(paths->size(), 2u);
  EXPECT_EQ(paths->front(), dir / "m-00001-of-00002.gguf");
  for (const std::string& path : *paths) {
    const auto source = open_source(path);
    ASSERT_TRUE(source) << source.error().message();
    EXPECT_EQ((*source)->files(), *paths);
    EXPECT_EQ((*source)->metadata().entries(), all_types().entries());
    expect_same(**source, samples);
  }
}

TEST(Gguf, SplitWithAMissingPartOrAnotherNameFails) {
  const TempDir dir;
  const auto paths = write_gguf(dir / "m.gguf", {}, some_tensors(), {.split_bytes = 132});
  ASSERT_TRUE(paths);
  std::filesystem::copy(paths->front(), dir / "other.gguf");
  auto source = open_source(dir / "other.gguf");
  ASSERT_FALSE(source);
  EXPECT_THAT(source.error().message(), HasSubstr("one of 2 parts"));
  std::filesystem::copy(paths->front(), paths->back(),
                        std::filesystem::copy_options::overwrite_existing);
  source = open_source(paths->front());
  ASSERT_FALSE(source);
  EXPECT_THAT(source.error().message(), HasSubstr("is part 1 of 2 by its metadata, 2 of 2"));
  std::filesystem::remove(paths->back());
  source = open_source(paths->front());
  ASSERT_FALSE(source);
  EXPECT_THAT(source.error().message(), HasSubstr("m-00002-of-00002.gguf: cannot open"));
}

TEST(Gguf, WriterRefusesWrongSizesAndLeavesNothing) {
  const TempDir dir;
  const auto samples = some_tensors();
  const auto bytes = std::as_bytes(std::span(samples[0].data));
  {
    auto writer = create_gguf(dir / "m.gguf", {}, infos(samples));
    ASSERT_TRUE(writer);
    EXPECT_TRUE((*writer)->write(0, bytes.first(3)));
    EXPECT_FALSE((*writer)->write(0, bytes));  // 3 bytes too many
    EXPECT_FALSE((*writer)->finish());         // tensor 0 is not complete
    EXPECT_EQ(dir.files(), 1u);
  }
  EXPECT_EQ(dir.files(), 0u);
}

TEST(Gguf, TensorsMayComeInAnyOrderAndInPieces) {
  const TempDir dir;
  const auto samples = some_tensors();
  for (const bool reversed : {false, true}) {
    auto writer = create_gguf(dir / (reversed ? "b.gguf" : "a.gguf"), {}, infos(samples));
    ASSERT_TRUE(writer);
    for (std::size_t k = 0; k < samples.size(); ++k) {
      const std::size_t i = reversed ? samples.size() - 1 - k : k;
      const auto bytes = std::as_bytes(std::span(samples[i].data));
      const std::size_t half = reversed ? bytes.size() / 2 : bytes.size();
      EXPECT_TRUE((*writer)->write(i, bytes.first(half)));
      EXPECT_TRUE((*writer)->write(i, bytes.subspan(half)));
    }
    ASSERT_TRUE((*writer)->finish());
  }
  EXPECT_EQ(*read_text(dir / "a.gguf"), *read_text(dir / "b.gguf"));
}

TEST(Gguf, WriterRefusesWhatStockToolsCannotLoad) {
  const TempDir dir;
  const auto refused = [&](Sample sample, const Metadata& metadata = {}) {
    const auto writer = create_gguf(dir / "m.gguf", metadata, {sample.info});
    EXPECT_FALSE(writer);
    EXPECT_EQ(dir.files(), 0u);
  };
  refused(make_sample(std::string(64, 'x'), "f32", {1}));
  refused(make_sample("\xff", "f32", {1}));
  refused(make_sample("five", "f32", {1, 1, 1, 1, 1}));
  Metadata metadata;
  metadata.set("general.alignment", std::uint32_t(24));
  refused(make_sample("x", "f32", {1}), metadata);
  const Sample twice = make_sample("x", "f32", {1});
  EXPECT_FALSE(create_gguf(dir / "m.gguf", {}, {twice.info, twice.info}));
}

TEST(Gguf, ExistingOutputIsFound) {
  const TempDir dir;
  EXPECT_TRUE(check_not_there(dir / "m.gguf"));
  write_file(dir / "m.gguf.part", "");
  write_file(dir / "mm-00001-of-00002.gguf", "");
  EXPECT_TRUE(check_not_there(dir / "m.gguf"));
  write_file(dir / "m-00001-of-00002.gguf", "");
  EXPECT_FALSE(check_not_there(dir / "m.gguf"));
  write_file(dir / "n.gguf", "");
  EXPECT_FALSE(check_not_there(dir / "n.gguf"));
}

/// Files can't grow beyond `bytes` while this lives: a full disk, as far as a writer can tell.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{bytes, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    std::signal(SIGXFSZ, SIG_IGN);
  }
  ~FileSizeLimit() { ::setrlimit(RLIMIT_FSIZE, &before_); }

 private:
  rlimit before_;
};

TEST(Gguf, FullDiskIsFoundBeforeTheWork) {
  const TempDir dir;
  const FileSizeLimit limit(1 << 20);
  const auto writer =
      create_gguf(dir / "m.gguf", {}, {make_sample("large", "f32", {1024, 1024}).info});
  ASSERT_FALSE(writer);
  EXPECT_EQ(writer.error().code(), ErrorCode::io);
  EXPECT_THAT(writer.error().message(), HasSubstr("m.gguf: cannot set aside"));
  EXPECT_EQ(dir.files(), 0u);
}

TEST(Gguf, FullDiskDuringTheWorkLeavesNothing) {
  const TempDir dir;
  const Sample large = make_sample("large", "f32", {1024, 1024});
  auto writer = create_gguf(dir / "m.gguf", {}, {large.info});
  ASSERT_TRUE(writer);
  const FileSizeLimit limit(1 << 20);
  const auto status = (*writer)->write(0, std::as_bytes(std::span(large.data)));
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code(), ErrorCode::io);
  EXPECT_THAT(status.error().message(), HasSubstr("m.gguf: cannot write: File too large"));
  writer->reset();
  EXPECT_EQ(dir.files(), 0u);
}

}  // namespace
}  // namespace nibble
