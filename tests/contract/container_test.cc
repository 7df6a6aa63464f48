// What every container owes: a file cut or changed anywhere is an error or a valid checkpoint,
// never a crash, never data outside the file. New containers get their sample in make_samples().
#include "container/container.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

#include "support/checkpoints.h"
#include "support/temp_dir.h"

namespace nibble {
namespace {

struct SampleFile {
  std::string name, bytes;
  std::size_t data;  // where the header ends
};

SampleFile gguf_sample() {
  const TempDir dir;
  const std::vector<Sample> tensors = {make_sample("a", "q8_0", {3, 64}),
                                       make_sample("b", "f16", {2, 5})};
  EXPECT_TRUE(write_gguf(dir / "m.gguf", all_types(), tensors));
  // Tensor a has 204 bytes and 20 of padding, b 20 and 12: those are cut, so that every byte
  // counts.
  std::string bytes = read_file(dir / "m.gguf");
  bytes.resize(bytes.size() - 12);
  return {"m.gguf", bytes, bytes.size() - 204 - 20 - 20};
}

SampleFile safetensors_sample() {
  const std::string header = R"({"a":{"dtype":"F32","shape":[4,2],"data_offsets":[0,32]},)"
                             R"("b":{"dtype":"BF16","shape":[3],"data_offsets":[32,38]}})";
  return {"m.safetensors", safetensors_file(header, std::string(38, 'x')), 8 + header.size()};
}

std::map<std::string_view, SampleFile> make_samples() {
  return {{"gguf", gguf_sample()}, {"safetensors", safetensors_sample()}};
}

class ContainerContract : public ::testing::TestWithParam<const Container*> {
 protected:
  void SetUp() override {
    const auto samples = make_samples();
    ASSERT_TRUE(samples.contains(GetParam()->id())) << "no sample of " << GetParam()->id();
    sample_ = samples.at(GetParam()->id());
    path_ = dir_ / sample_.name;
    write_file(path_, sample_.bytes);
  }

  Result<std::unique_ptr<Source>> open(const std::string& bytes) {
    write_file(path_, bytes);
    return open_source(path_);
  }

  /// Puts `change` over the sample at `at` for a moment (in place: thousands of files are slow).
  void open_changed(std::size_t at, const std::string& change) {
    const auto put = [&](const std::string& bytes) {
      std::fstream(path_, std::ios::in | std::ios::out | std::ios::binary)
          .seekp(std::streamoff(at))
          .write(bytes.data(), std::streamsize(bytes.size()));
    };
    put(change);
    if (const auto source = open_source(path_)) read_all(**source);
    put(sample_.bytes.substr(at, change.size()));
  }

  /// Whatever was accepted can be read to its last byte (a sanitizer would object).
  static void read_all(const Source& source) {
    unsigned sum = 0;
    for (std::size_t i = 0; i < source.tensors().size(); ++i) {
      const TensorInfo& tensor = source.tensors()[i];
      ASSERT_NE(tensor.format, nullptr);
      ASSERT_EQ(source.data(i).size(), tensor.bytes);
      ASSERT_EQ(tensor.rows() * tensor.format->row_bytes(tensor.columns()), tensor.bytes);
      for (const std::byte byte : source.data(i)) sum += unsigned(byte);
      source.release(i, 0, tensor.bytes);
    }
    EXPECT_GT(sum + 1, 0u);
  }

  void expect_error_when_cut(std::size_t size) {
    std::filesystem::resize_file(path_, size);
    const auto source = open_source(path_);
    ASSERT_FALSE(source) << "cut to " << size;
    const std::string& message = source.error().message();
    EXPECT_EQ(message.find(path_), 0u) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
  }

  TempDir dir_;
  SampleFile sample_;
  std::string path_;
};

TEST_P(ContainerContract, TheSampleItselfOpens) {
  const auto source = open(sample_.bytes);
  ASSERT_TRUE(source) << source.error().message();
  EXPECT_EQ((*source)->container(), GetParam()->id());
  EXPECT_EQ((*source)->tensors().size(), 2u);
  read_all(**source);
}

TEST_P(ContainerContract, TruncatedAnywhereFails) {
  for (std::size_t n = sample_.bytes.size(); n-- > 0;) expect_error_when_cut(n);
}

TEST_P(ContainerContract, ChangedHeadersFailOrStayInsideTheFile) {
  std::mt19937 random(2);
  for (std::size_t at = 0; at < sample_.data; ++at)
    for (const unsigned change : {0u, 0xffu, unsigned(random() % 256)})
      open_changed(at, std::string(1, char(change)));
}

TEST_P(ContainerContract, HeadersWithLargeNumbersFailOrStayInsideTheFile) {
  for (std::size_t at = 4; at + 8 <= sample_.data; ++at)
    open_changed(at, std::string("\xff\xff\xff\xff\xff\xff\xff\x7f", 8));
}

INSTANTIATE_TEST_SUITE_P(All, ContainerContract,
                         ::testing::ValuesIn(container_registry().begin(),
                                             container_registry().end()),
                         [](const auto& tested) { return std::string(tested.param->id()); });

}  // namespace
}  // namespace nibble
