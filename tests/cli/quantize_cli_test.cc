#include <gmock/gmock.h>

#include <cmath>
#include <filesystem>

#include "cli/program.h"
#include "support/models.h"

namespace nibble {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class QuantizeCli : public ::testing::Test {
 protected:
  void SetUp() override { write_model(dir_ / "in.gguf", random_model()); }
  Outcome run(const std::string& arguments, const std::string& before = "") {
    return nibble_program(dir_, arguments, before);
  }
  /// Refused with all of `words` in the message, and nothing left but what was there before.
  void refused(const std::string& arguments, const std::vector<std::string>& words,
               const std::string& before = "") {
    SCOPED_TRACE(arguments);
    const std::size_t files = dir_.files();
    const Outcome outcome = run(arguments, before);
    expect_refused(outcome);
    for (const std::string& word : words) EXPECT_THAT(outcome.err, HasSubstr(word));
    EXPECT_EQ(dir_.files(), files);
  }
  TempDir dir_;
};

TEST_F(QuantizeCli, JsonIsAllThereIsOnStdout) {
  const Outcome outcome = run("quantize in.gguf -o out.gguf --to Q4_K_M --json");
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const auto json = outcome.json();
  ASSERT_TRUE(json.is_object()) << outcome.out;
  EXPECT_EQ(json["output"], "out.gguf");
  EXPECT_EQ(json["bytes"], std::filesystem::file_size(dir_ / "out.gguf"));
  for (const char* key : {"bits_per_weight", "seconds", "peak_memory_bytes"})
    EXPECT_GT(json[key].get<double>(), 0) << key;
  EXPECT_EQ(json["tensors"].size(), random_model().size());
}

TEST_F(QuantizeCli, DryRunSaysWhatWillBe) {
  const Outcome plan = run("quantize in.gguf --to Q4_K_M --dry-run --json");
  ASSERT_EQ(plan.code, 0) << plan.err;
  EXPECT_EQ(dir_.files(), 1u);
  ASSERT_EQ(run("quantize in.gguf -o out.gguf --to Q4_K_M").code, 0);
  EXPECT_EQ(plan.json()["bytes"], std::filesystem::file_size(dir_ / "out.gguf"));
  const Outcome text = run("quantize in.gguf --to Q4_K_M --dry-run");
  EXPECT_THAT(text.out, AllOf(HasSubstr("160 columns"), HasSubstr("ffn_down")));
}

TEST_F(QuantizeCli, InspectAgrees) {
  ASSERT_EQ(run("quantize in.gguf -o out.gguf --to Q4_0").code, 0);
  const auto json = run("inspect out.gguf --json").json();
  ASSERT_TRUE(json.is_object());
  EXPECT_EQ(json["format"], "gguf");
  EXPECT_EQ(json["architecture"], "test");
  EXPECT_EQ(json["bytes"], std::filesystem::file_size(dir_ / "out.gguf"));
  EXPECT_EQ(json["tensors"][0]["shape"], nlohmann::json({256, 96}));
  EXPECT_EQ(json["tensors"][0]["name"], "token_embd.weight");
  EXPECT_EQ(json["metadata"]["test.block_count"], 2);
  EXPECT_THAT(run("inspect out.gguf").out, HasSubstr("blk.1.ffn_down.weight"));
}

TEST_F(QuantizeCli, ConvertAndBack) {
  ASSERT_EQ(run("convert in.gguf -o f32.gguf --to f32").code, 0);
  ASSERT_EQ(run("convert f32.gguf -o bf16.gguf --to bf16").code, 0);
  ASSERT_EQ(run("convert in.gguf -o same.gguf").code, 0);
  const auto a = open_source(dir_ / "bf16.gguf").value(),
             b = open_source(dir_ / "same.gguf").value();
  for (std::size_t i = 0; i < a->tensors().size(); ++i)
    EXPECT_TRUE(std::ranges::equal(a->data(i), b->data(i))) << a->tensors()[i].name;
}

TEST_F(QuantizeCli, HelpHasExamples) {
  for (const char* command : {"", "quantize", "convert", "inspect"}) {
    const Outcome outcome = run(std::string(command) + " --help");
    EXPECT_EQ(outcome.code, 0);
    EXPECT_THAT(outcome.out, HasSubstr("Examples:")) << command;
  }
}

TEST_F(QuantizeCli, Arguments) {
  refused("", {"subcommand"});
  refused("frobnicate", {"frobnicate"});
  refused("--frobnicate", {"--frobnicate"});
  refused("run in.gguf -p a --threads -3", {"threads"});
  refused("bench in.gguf -p 100000000", {"--prompt"});
  refused("quantize", {"SRC"});
  refused("quantize in.gguf -o out.gguf", {"--to"});
  refused("quantize in.gguf --to Q4_0", {"-o"});
  refused("quantize in.gguf -o out.gguf --to Q4_0 --nonsense", {"--nonsense"});
  refused("quantize in.gguf -o out.gguf --to Q4_9", {"Q4_9", "Q4_K_M"});
  refused("quantize in.gguf -o out.gguf --to Q4_0 --threads 0", {"threads"});
  refused("quantize in.gguf -o out.gguf --to Q4_0 --override nothing=q8_0", {"nothing"});
  refused("quantize in.gguf -o out.gguf --to Q4_0 --override ffn_down=q4_k", {"ffn_down", "160"});
  refused("quantize in.gguf -o out.gguf --to Q4_0 --calib in.txt", {"in.txt"});
}

TEST_F(QuantizeCli, Files) {
  refused("quantize none.gguf -o out.gguf --to Q4_0", {"none.gguf"});
  refused("quantize in.gguf -o no/such/out.gguf --to Q4_0", {"no/such/out.gguf"});
  std::filesystem::create_directory(dir_ / "empty");
  refused("quantize empty -o out.gguf --to Q4_0", {"empty"});
  refused("quantize in.gguf -o empty --to Q4_0", {"directory"});
  refused("quantize in.gguf -o in.gguf --to Q4_0 --force", {"in.gguf", "the source itself"});
  refused("calibrate in.gguf -o in.gguf --force", {"in.gguf", "the source itself"});
  refused("calibrate in.gguf -o no/such/out.gguf", {"no/such/out.gguf", "cannot create"});
  const std::string whole = read_file(dir_ / "in.gguf");
  for (const std::size_t size :
       {std::size_t(0), std::size_t(3), std::size_t(100), whole.size() - 1}) {
    write_file(dir_ / "cut.gguf", whole.substr(0, size));
    refused("quantize cut.gguf -o out.gguf --to Q4_0", {"cut.gguf"});
    refused("inspect cut.gguf --json", {"cut.gguf"});
  }
}

TEST_F(QuantizeCli, ExistingOutput) {
  write_file(dir_ / "out.gguf", "precious");
  refused("quantize in.gguf -o out.gguf --to Q4_0", {"out.gguf", "--force"});
  EXPECT_EQ(read_file(dir_ / "out.gguf"), "precious");
  EXPECT_EQ(run("quantize in.gguf -o out.gguf --to Q4_0 --force").code, 0);
}

TEST_F(QuantizeCli, Budgets) {
  const std::string start = "quantize in.gguf -o out.gguf ";
  refused(start + "--size '5 parsecs'", {"5 parsecs", "5GiB"});
  refused(start + "--size 5XB", {"5XB"});
  refused(start + "--size 1GB --bpw 4", {"--size", "--bpw"});
  refused(start + "--bpw 4 --to Q4_0", {"Q4_0", "budget"});
  refused(start + "--bpw -1", {"--bpw"});
  refused(start + "--kld nan", {"--kld"});
  refused(start + "--bpw 4 --formats q4_0,q9", {"q9"});
  refused(start + "--to Q4_0 --formats q4_0", {"--formats"});
  refused(start + "--to Q4_0 --fast --recipe gptq", {"--fast", "gptq"});
}

TEST_F(QuantizeCli, FullDisk) {
  // ulimit counts blocks of 1024 bytes: 20 kB, less than any output here.
  refused("quantize in.gguf -o out.gguf --to Q4_0", {"out.gguf"}, "ulimit -f 20;");
  write_file(dir_ / "out.gguf", "precious");
  refused("quantize in.gguf -o out.gguf --to Q4_0 --force", {"out.gguf"}, "ulimit -f 20;");
  EXPECT_EQ(read_file(dir_ / "out.gguf"), "precious");
}

TEST_F(QuantizeCli, NanWeights) {
  auto samples = random_model("f32");
  const float nan = std::nanf("");
  std::memcpy(&samples[2].data[(3 * 256 + 4) * 4], &nan, 4);
  write_model(dir_ / "nan.gguf", samples);
  refused("quantize nan.gguf -o out.gguf --to Q4_K_M",
          {"nan.gguf", "blk.0.attn_q.weight", "row 3, column 4"});
  refused("convert nan.gguf -o out.gguf", {"blk.0.attn_q.weight", "row 3, column 4"});
}

TEST_F(QuantizeCli, WrongShapeForTheArchitecture) {
  Metadata metadata = model_metadata();
  metadata.set("general.architecture", std::string("llama"));
  ASSERT_TRUE(write_gguf(dir_ / "llama.gguf", metadata, random_model()));
  refused("quantize llama.gguf -o out.gguf --to Q4_0", {"llama.gguf"});
}

}  // namespace
}  // namespace nibble
