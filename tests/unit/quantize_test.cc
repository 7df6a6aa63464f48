#include "nibble/quantize.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "base/file.h"
#include "base/hash.h"
#include "container/imatrix.h"
#include "nibble/version.h"
#include "plan/levels.h"
#include "quantize/verify.h"
#include "support/models.h"
#include "support/temp_dir.h"

namespace nibble {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class Listener final : public Progress {
 public:
  void begin(std::string_view, std::uint64_t, std::string_view) override {}
  void update(std::uint64_t) override { ++updates; }
  void end() override {}
  void note(std::string_view message) override { notes += std::string(message) + "\n"; }
  bool cancelled() const override { return updates >= stop_after; }
  std::string notes;
  int updates = 0, stop_after = 1 << 30;
};

QuantizeOptions options(const TempDir& dir, const std::string& target) {
  QuantizeOptions out;
  out.source = dir / "in.gguf";
  out.output = dir / "out.gguf";
  out.target = target;
  out.force = true;
  return out;
}

QuantizeReport run(const QuantizeOptions& options) {
  auto report = quantize(options);
  EXPECT_TRUE(report) << report.error().message();
  return report ? *report : QuantizeReport{};
}

std::string error_of(const QuantizeOptions& options) {
  const auto report = quantize(options);
  return report ? "" : report.error().message();
}

std::vector<float> values(const Source& source, std::size_t index) {
  const TensorInfo& tensor = source.tensors()[index];
  std::vector<float> out(tensor.elements());
  tensor.format->decode(source.data(index).data(),
                        tensor.elements() / std::uint64_t(tensor.format->block()), out.data());
  return out;
}

TEST(Quantize, EveryLevelAsPlanned) {
  const TempDir dir;
  write_model(dir / "in.gguf", random_model());
  const auto before = open_source(dir / "in.gguf").value();
  for (const Level& level : level_table()) {
    SCOPED_TRACE(level.name);
    const QuantizeOptions wanted = options(dir, std::string(level.name));
    const auto plan = plan_quantize(wanted);
    ASSERT_TRUE(plan) << plan.error().message();
    const QuantizeReport report = run(wanted);
    EXPECT_EQ(plan->bytes, report.bytes);
    EXPECT_EQ(std::filesystem::file_size(dir / "out.gguf"), report.bytes);
    const auto after = open_source(dir / "out.gguf");
    ASSERT_TRUE(after) << after.error().message();
    ASSERT_EQ((*after)->tensors().size(), report.tensors.size());
    for (std::size_t i = 0; i < report.tensors.size(); ++i) {
      EXPECT_EQ((*after)->tensors()[i].format->id(), report.tensors[i].format);
      EXPECT_EQ(plan->tensors[i].format, report.tensors[i].format);
      const auto x = values(*before, i), q = values(**after, i);
      double error = 0;
      for (std::size_t j = 0; j < x.size(); ++j) error += std::pow(double(x[j]) - q[j], 2);
      // The report sums runs of at most 39 squares in float32: 3 roundings a square and 39 of the
      // sums, each of 2^-24.
      EXPECT_NEAR(report.tensors[i].squared_error, error, 42 * 0x1p-24 * error)
          << report.tensors[i].name;
    }
  }
}

TEST(Quantize, SameBytesForEveryNumberOfThreads) {
  const TempDir dir;
  write_model(dir / "in.gguf", random_model());
  for (const char* target : {"Q4_K_M", "IQ4_XS", "F16", "keep"}) {
    std::string first;
    for (const int threads : {1, 2, 5, 1}) {
      QuantizeOptions wanted = options(dir, target);
      wanted.threads = threads;
      run(wanted);
      const std::string bytes = read_file(dir / "out.gguf");
      if (first.empty()) first = bytes;
      EXPECT_EQ(bytes, first) << target << " with " << threads;
    }
  }
}

TEST(Quantize, KeepCopiesBytesAndAllMetadata) {
  const TempDir dir;
  const auto samples = random_model("f16");
  write_model(dir / "in.gguf", samples);
  run(options(dir, "keep"));
  const auto source = open_source(dir / "out.gguf").value();
  for (std::size_t i = 0; i < samples.size(); ++i) {
    if (samples[i].info.shape.size() < 2) continue;
    const auto bytes = source->data(i);
    EXPECT_EQ(std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()),
              samples[i].data);
  }
  const Metadata& metadata = source->metadata();
  const Metadata given = model_metadata();
  for (const auto& [key, value] : given.entries()) {
    ASSERT_NE(metadata.find(key), nullptr) << key;
    EXPECT_EQ(*metadata.find(key), value);
  }
  EXPECT_EQ(metadata.uint("general.file_type").value(), 1u);
  EXPECT_EQ(metadata.uint("general.quantization_version").value(), 2u);
  EXPECT_EQ(metadata.text("nibble.recipe").value(), fmt::format("nearest:keep {}", version()));
  Sha256 sha;
  const std::string file = read_file(dir / "in.gguf");
  sha.update(std::as_bytes(std::span(file)));
  EXPECT_EQ(metadata.text("nibble.source").value(), sha.hex().substr(0, 32));
}

TEST(Quantize, SplitOutput) {
  const TempDir dir;
  write_model(dir / "in.gguf", random_model());
  QuantizeOptions wanted = options(dir, "Q8_0");
  wanted.split_bytes = 100000;
  const QuantizeReport report = run(wanted);
  EXPECT_GT(report.files.size(), 1u);
  std::uint64_t bytes = 0;
  for (const std::string& path : report.files) bytes += std::filesystem::file_size(path);
  EXPECT_EQ(bytes, report.bytes);
  const auto source = open_source(report.files.front());
  ASSERT_TRUE(source) << source.error().message();
  EXPECT_EQ((*source)->tensors().size(), random_model().size());
}

TEST(Quantize, WeightsThatAreNoNumbersAreNamed) {
  const TempDir dir;
  auto samples = random_model("f32");
  const float nan = std::nanf("");
  std::memcpy(&samples[3].data[(5 * 256 + 7) * 4], &nan, 4);
  write_model(dir / "in.gguf", samples);
  for (const char* target : {"Q4_K_M", "Q4_0", "F16", "keep"})
    EXPECT_THAT(error_of(options(dir, target)),
                AllOf(HasSubstr("blk.0.attn_v.weight"), HasSubstr("row 5, column 7")))
        << target;
  EXPECT_EQ(dir.files(), 1u);
}

TEST(Quantize, ValuesTooLargeForF16AreNamed) {
  const TempDir dir;
  auto samples = random_model("f32");
  const float large = 1e6f;
  std::memcpy(&samples[2].data[(9 * 256 + 1) * 4], &large, 4);
  write_model(dir / "in.gguf", samples);
  EXPECT_THAT(error_of(options(dir, "F16")),
              AllOf(HasSubstr("blk.0.attn_q.weight"), HasSubstr("row 9, column 1")));
  EXPECT_EQ(dir.files(), 1u);
  run(options(dir, "BF16"));
}

TEST(Quantize, ExistingOutputIsLeftAlone) {
  const TempDir dir;
  write_model(dir / "in.gguf", random_model());
  write_file(dir / "out.gguf", "precious");
  QuantizeOptions wanted = options(dir, "Q4_0");
  wanted.force = false;
  EXPECT_THAT(error_of(wanted), AllOf(HasSubstr("exists"), HasSubstr("--force")));
  EXPECT_EQ(read_file(dir / "out.gguf"), "precious");
  wanted.output = dir.path();
  EXPECT_THAT(error_of(wanted), HasSubstr("directory"));
}

TEST(Quantize, OneWriterAtATime) {
  const TempDir dir;
  write_model(dir / "in.gguf", random_model());
  {
    const auto other = OutputFile::create(dir / "out.gguf");
    ASSERT_TRUE(other);
    EXPECT_THAT(error_of(options(dir, "Q4_0")), HasSubstr("another program"));
    EXPECT_TRUE(std::filesystem::exists(other->part_path()));
  }
  run(options(dir, "Q4_0"));
}

TEST(Quantize, NeverReplacesItsSource) {
  const TempDir dir;
  write_model(dir / "in.gguf", random_model());
  const std::string source = read_file(dir / "in.gguf");
  QuantizeOptions wanted = options(dir, "Q8_0");
  wanted.output = wanted.source;
  EXPECT_THAT(error_of(wanted), HasSubstr("in.gguf"));
  EXPECT_EQ(read_file(dir / "in.gguf"), source);
  EXPECT_EQ(dir.files(), 1u);
}

TEST(Quantize, GoesOnAfterACancel) {
  const TempDir dir;
  write_model(dir / "in.gguf", random_model());
  const QuantizeOptions wanted = options(dir, "Q4_K_M");
  run(wanted);
  const std::string whole = read_file(dir / "out.gguf");
  std::filesystem::remove(dir / "out.gguf");

  Listener stopped;
  stopped.stop_after = 3;
  const auto report = quantize(wanted, stopped);
  ASSERT_FALSE(report);
  EXPECT_EQ(stopped.notes.find("going on from"), std::string::npos);
  EXPECT_EQ(report.error().code(), ErrorCode::cancelled);
  EXPECT_FALSE(std::filesystem::exists(dir / "out.gguf"));

  Listener again;
  const auto second = quantize(wanted, again);
  ASSERT_TRUE(second) << second.error().message();
  EXPECT_THAT(again.notes, HasSubstr("going on from"));
  EXPECT_EQ(read_file(dir / "out.gguf"), whole);
  for (const QuantizedTensor& tensor : second->tensors)
    if (tensor.format != tensor.source_format) {
      EXPECT_GT(tensor.squared_weight, 0) << tensor.name;
    }
  EXPECT_EQ(dir.files(), 2u);
}

TEST(Quantize, OtherOptionsStartAfresh) {
  const TempDir dir;
  write_model(dir / "in.gguf", random_model());
  run(options(dir, "Q8_0"));
  const std::string whole = read_file(dir / "out.gguf");
  Listener stopped;
  stopped.stop_after = 3;
  ASSERT_FALSE(quantize(options(dir, "Q4_K_M"), stopped));
  Listener other;
  ASSERT_TRUE(quantize(options(dir, "Q8_0"), other));
  EXPECT_EQ(other.notes.find("going on"), std::string::npos);
  EXPECT_EQ(read_file(dir / "out.gguf"), whole);
}

TEST(Quantize, DamagedPartIsMadeAnew) {
  const TempDir dir;
  write_model(dir / "in.gguf", random_model());
  const QuantizeOptions wanted = options(dir, "Q4_K_M");
  run(wanted);
  const std::string whole = read_file(dir / "out.gguf");
  Listener stopped;
  stopped.stop_after = 8;
  ASSERT_FALSE(quantize(wanted, stopped));
  std::string part = read_file(dir / "out.gguf.part");
  for (std::size_t i = part.size() / 2; i < part.size(); ++i) part[i] = char(part[i] ^ 1);
  ASSERT_TRUE(write_text(dir / "damaged", part));
  std::filesystem::rename(dir / "damaged", dir / "out.gguf.part");
  run(wanted);
  EXPECT_EQ(read_file(dir / "out.gguf"), whole);
}

TEST(Quantize, SaysThatErrorsAddUp) {
  const TempDir dir;
  write_model(dir / "in.gguf", random_model());
  QuantizeOptions wanted = options(dir, "Q8_0");
  run(wanted);
  wanted.source = dir / "out.gguf";
  wanted.output = dir / "twice.gguf";
  wanted.target = "Q4_0";
  Listener listener;
  ASSERT_TRUE(quantize(wanted, listener));
  EXPECT_THAT(listener.notes, HasSubstr("quantized in the source"));
}

TEST(Quantize, ExpertsHaveTheirOwnImportance) {
  const TempDir dir;
  auto samples = random_model("f32");
  samples.push_back(random_sample("blk.0.ffn_up_exps.weight", "f32", {2, 64, 256}));
  write_model(dir / "in.gguf", samples);
  Imatrix imatrix;
  std::vector<float> flat(512, 1.0f), steep = flat;
  for (int j = 0; j < 8; ++j) steep[256 + j] = 1000;
  imatrix.entries["blk.0.ffn_up_exps.weight"] = {flat, {1, 1}};
  ASSERT_TRUE(write_imatrix(dir / "flat.gguf", imatrix));
  imatrix.entries["blk.0.ffn_up_exps.weight"] = {steep, {1, 1}};
  ASSERT_TRUE(write_imatrix(dir / "steep.gguf", imatrix));
  QuantizeOptions wanted = options(dir, "q4_k");
  const auto bytes_with = [&](const char* file) {
    wanted.calibration = dir / file;
    run(wanted);
    const auto source = open_source(dir / "out.gguf").value();
    const auto bytes = source->data(samples.size() - 1);
    return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  };
  const std::string a = bytes_with("flat.gguf"), b = bytes_with("steep.gguf");
  EXPECT_EQ(a.substr(0, a.size() / 2), b.substr(0, b.size() / 2));
  EXPECT_NE(a.substr(a.size() / 2), b.substr(b.size() / 2));
}

TEST(Quantize, ImportanceOfAnotherModel) {
  const TempDir dir;
  write_model(dir / "in.gguf", random_model());
  Imatrix imatrix;
  imatrix.entries["blk.1.attn_q.weight"] = {std::vector<float>(128, 1.0f), {1}};
  ASSERT_TRUE(write_imatrix(dir / "imatrix.gguf", imatrix));
  QuantizeOptions wanted = options(dir, "Q4_K_M");
  wanted.calibration = dir / "imatrix.gguf";
  EXPECT_THAT(error_of(wanted),
              AllOf(HasSubstr("blk.1.attn_q.weight"), HasSubstr("another model")));
}

TEST(Quantize, OptionsThatMakeNoSense) {
  const TempDir dir;
  write_model(dir / "in.gguf", random_model());
  EXPECT_THAT(error_of(options(dir, "")), HasSubstr("--to"));
  QuantizeOptions wanted = options(dir, "Q4_0");
  wanted.recipe = "importance";
  EXPECT_THAT(error_of(wanted), HasSubstr("--calib"));
  wanted.recipe = "magic";
  EXPECT_THAT(error_of(wanted), AllOf(HasSubstr("magic"), HasSubstr("nearest")));
  wanted.recipe = "twist+nearest";
  EXPECT_THAT(error_of(wanted), HasSubstr("twist"));
  wanted.recipe = "nearest:Q8_0";
  EXPECT_THAT(error_of(wanted), AllOf(HasSubstr("Q8_0"), HasSubstr("Q4_0")));
  wanted = options(dir, "Q4_0");
  wanted.source = dir / "none.gguf";
  EXPECT_THAT(error_of(wanted), HasSubstr("none.gguf"));
  wanted = options(dir, "Q4_0");
  wanted.output = dir / "no/such/out.gguf";
  EXPECT_THAT(error_of(wanted), HasSubstr("no/such/out.gguf"));
}

TEST(Verify, FindsBlocksThatAreNotFinite) {
  const TempDir dir;
  auto samples = random_model();
  Sample bad = make_sample("bad.weight", "q4_0", {4, 64});
  for (std::size_t at = 0; at < bad.data.size(); at += 18) bad.data[at] = bad.data[at + 1] = 0;
  bad.data[18 * 5] = 0;
  bad.data[18 * 5 + 1] = char(0x7c);  // an infinite scale: row 2, columns 32 to 63
  samples.push_back(bad);
  write_model(dir / "in.gguf", samples);
  ThreadPool pool(2);
  const auto status = verify_gguf({dir / "in.gguf"}, infos(samples), pool);
  ASSERT_FALSE(status);
  EXPECT_THAT(status.error().message(),
              AllOf(HasSubstr("bad.weight"), HasSubstr("row 2, column 32")));
  samples.pop_back();
  EXPECT_FALSE(verify_gguf({dir / "in.gguf"}, infos(samples), pool));
}

}  // namespace
}  // namespace nibble
