// Checkpoints that are wrong in one place: each is refused in one line that names it, and nothing
// is left behind. The libraries' tests go through every byte; this is what users see.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <sys/stat.h>

#include <cmath>
#include <filesystem>
#include <functional>

#include "cli/program.h"
#include "support/checkpoints.h"
#include "support/memory_source.h"
#include "support/tokenizers.h"

namespace nibble {
namespace {

using ::testing::HasSubstr;

constexpr const char* kQuery = "model.layers.1.self_attn.q_proj.weight";

/// A small Llama as a Hugging Face directory "in", every part of which a test may change.
class BadInput : public ::testing::Test {
 protected:
  BadInput() {
    for (const Arch* arch : arch_registry())
      if (arch->id() == "llama") source_ = small_checkpoint(*arch, config_);
    std::uint64_t offset = 0;
    for (std::size_t i = 0; i < source_->infos.size(); ++i) {
      const TensorInfo& tensor = source_->infos[i];
      header_[tensor.name] = {{"dtype", "F32"},
                              {"shape", tensor.shape},
                              {"data_offsets", {offset, offset + tensor.bytes}}};
      offset += tensor.bytes;
      data_.append(reinterpret_cast<const char*>(source_->bytes[i].data()), tensor.bytes);
    }
    std::filesystem::create_directory(dir_ / "in");
    write();
  }

  void write() {
    write_file(dir_ / "in/config.json", config_.dump());
    write_file(dir_ / "in/tokenizer.json", tokenizer_.dump());
    write_file(dir_ / "in/model.safetensors", safetensors_file(header_.dump(), data_));
  }

  /// Refused with all of `words` in the message, and no file more or less than before.
  void refused(const std::vector<std::string>& words,
               const std::string& arguments = "quantize in -o out.gguf --to Q8_0") {
    const std::size_t files = dir_.files();
    const Outcome outcome = nibble_program(dir_, arguments);
    SCOPED_TRACE(arguments + ": " + outcome.err);
    expect_refused(outcome);
    for (const std::string& word : words) EXPECT_THAT(outcome.err, HasSubstr(word));
    EXPECT_EQ(dir_.files(), files);
  }

  /// The same after a change, which is then taken back.
  void refused_with(const std::function<void()>& change, const std::vector<std::string>& words) {
    const Json config = config_, tokenizer = tokenizer_, header = header_;
    const std::string data = data_;
    change();
    write();
    refused(words);
    config_ = config, tokenizer_ = tokenizer, header_ = header, data_ = data;
    write();
  }

  TempDir dir_;
  Json config_ = small_config("LlamaForCausalLM"), tokenizer_ = tokenizer_json(50), header_;
  std::unique_ptr<MemorySource> source_;
  std::string data_;
};

TEST_F(BadInput, UnchangedItIsFine) {
  const Outcome outcome = nibble_program(dir_, "quantize in -o out.gguf --to Q8_0");
  EXPECT_EQ(outcome.code, 0) << outcome.err;
}

TEST_F(BadInput, Config) {
  refused_with([&] { config_["hidden_size"] = 64; }, {"in", "shape", "configuration"});
  refused_with([&] { config_["vocab_size"] = 49; }, {"in", "shape [50, 32]"});
  refused_with([&] { config_["num_hidden_layers"] = 4; }, {"model.layers.3", "missing"});
  refused_with([&] { config_["num_hidden_layers"] = 2; }, {"model.layers.2", "not part"});
  refused_with([&] { config_.erase("hidden_size"); }, {"config.json", "hidden_size"});
  refused_with([&] { config_["rms_norm_eps"] = "NaN"; }, {"config.json", "rms_norm_eps"});
  refused_with([&] { config_["architectures"] = {"BertModel"}; }, {"config.json", "BertModel"});
  refused_with([&] { config_ = Json::array(); }, {"config.json", "object"});
  write_file(dir_ / "in/config.json", config_.dump().substr(0, 40));
  refused({"config.json", "not valid JSON"});
  std::filesystem::remove(dir_ / "in/config.json");
  refused({"config.json", "missing"});
}

TEST_F(BadInput, Tensors) {
  const auto offsets = [&](const char* name) -> Json& { return header_[name]["data_offsets"]; };
  const Json other = offsets("model.layers.0.self_attn.q_proj.weight");
  refused_with([&] { offsets(kQuery) = other; }, {"model.safetensors", "offset"});
  refused_with([&] { offsets(kQuery) = {1u << 30, (1u << 30) + 4096}; }, {"model.safetensors"});
  refused_with([&] { header_[kQuery]["dtype"] = "I32"; }, {"model.safetensors", kQuery, "I32"});
  refused_with([&] { header_[kQuery]["shape"] = {16, 64}; }, {kQuery, "shape [16, 64]"});
  refused_with([&] { header_[kQuery]["shape"] = {-1, 32}; }, {kQuery, "shape"});
  refused_with([&] { data_ += "more"; }, {"model.safetensors", "the tensors end at"});
  const float nan = std::nanf(""), infinity = INFINITY;
  const std::size_t at = offsets(kQuery)[0].get<std::size_t>() + (2 * 32 + 5) * 4;
  refused_with([&] { std::memcpy(&data_[at], &nan, 4); }, {"in", "blk.1.attn_q", "row"});
  refused_with([&] { std::memcpy(&data_[at], &infinity, 4); }, {"in", "blk.1.attn_q", "row"});
  std::string twice = header_.dump();
  const std::string first = "model.layers.0.self_attn.q_proj.weight";
  twice.replace(twice.find(first), first.size(), kQuery);
  write_file(dir_ / "in/model.safetensors", safetensors_file(twice, data_));
  refused({"model.safetensors", "duplicate", kQuery});
}

TEST_F(BadInput, CutFiles) {
  const std::string whole = read_file(dir_ / "in/model.safetensors");
  const std::size_t header = 8 + header_.dump().size();
  for (const std::size_t size :
       {std::size_t(0), std::size_t(1), std::size_t(7), std::size_t(8), std::size_t(9), header - 1,
        header, header + 1, whole.size() - 1}) {
    write_file(dir_ / "in/model.safetensors", whole.substr(0, size));
    refused({"in/model.safetensors"});
  }
  std::filesystem::remove(dir_ / "in/model.safetensors");
  refused({"in", ".safetensors"});
  std::filesystem::create_symlink("gone", dir_ / "in/model.safetensors");
  refused({"in", ".safetensors"});
}

TEST_F(BadInput, Tokenizer) {
  refused_with([&] { tokenizer_ = tokenizer_json(51); }, {"tokenizer.json", "50 rows"});
  refused_with([&] { tokenizer_["model"]["type"] = "Magic"; }, {"tokenizer.json"});
  refused_with([&] { tokenizer_["pre_tokenizer"]["add_prefix_space"] = true; },
               {"tokenizer.json", "add_prefix_space"});
  // Tables that the tokenizers crate panics on: when it reads the first, when it uses the second.
  for (const char* table : {"AQ==", "AAAAAA=="})
    refused_with(
        [&] {
          tokenizer_["normalizer"] = {{"type", "Precompiled"}, {"precompiled_charsmap", table}};
        },
        {"in: tokenizer.json: the tokenizers library fails on it: "});
  write_file(dir_ / "in/tokenizer.json", tokenizer_.dump().substr(0, 40));
  refused({"in: tokenizer.json: "});
  std::filesystem::remove(dir_ / "in/tokenizer.json");
  refused({"tokenizer.json", "missing"});
}

TEST_F(BadInput, Gguf) {
  ASSERT_EQ(nibble_program(dir_, "convert in -o ok.gguf --to f32").code, 0);
  const std::string whole = read_file(dir_ / "ok.gguf");
  const auto changed = [&](const std::string& from, const std::string& to,
                           const std::vector<std::string>& words) {
    std::string bytes = whole;
    ASSERT_NE(bytes.find(from), std::string::npos) << from;
    write_file(dir_ / "bad.gguf", bytes.replace(bytes.find(from), from.size(), to));
    refused(words, "quantize bad.gguf -o out.gguf --to Q8_0");
  };
  changed("blk.1.attn_q.weight", "blk.0.attn_q.weight", {"bad.gguf", "blk.0.attn_q.weight"});
  changed("llama.block_count", "llama.block_c0unt", {"bad.gguf", "llama.block_count"});
  changed("tokenizer.ggml.merges", "tokenizer.ggml.tokens", {"bad.gguf", "tokenizer.ggml.tokens"});
  changed("GGUF", "GGUG", {"bad.gguf"});
  changed(std::string("GGUF\3", 5), std::string("GGUF\4", 5), {"bad.gguf", "version 4"});
}

TEST_F(BadInput, PipesAndDevices) {
  ASSERT_EQ(::mkfifo((dir_ / "pipe").c_str(), 0600), 0);
  refused({"pipe", "not a regular file"}, "quantize pipe -o out.gguf --to Q8_0");
  refused({"pipe", "not a regular file"}, "quantize in -o pipe --to Q8_0 --force");
  EXPECT_TRUE(std::filesystem::is_fifo(dir_ / "pipe"));
}

TEST_F(BadInput, RunAndBench) {
  ASSERT_EQ(nibble_program(dir_, "convert in -o ok.gguf --to f32").code, 0);
  for (const std::string run : {"run ok.gguf -p a", "bench ok.gguf", "eval ok.gguf --text a"})
    refused({"--cache", "no cache of type 'q3'", "f16"}, run + " --cache q3");
  for (const std::string run : {"run ok.gguf -p a", "bench ok.gguf", "serve ok.gguf --port 0"})
    refused({"ok.gguf/x", "cannot make this directory"}, run + " --packed ok.gguf/x");
  refused({"gone.gguf"}, "run ok.gguf -p a --draft gone.gguf");
  refused({"--draft", "--lookup"}, "run ok.gguf -p a --lookup --draft ok.gguf");
  refused({"--draft", "--text"}, "bench ok.gguf --draft ok.gguf");
  refused({"--batch"}, "bench ok.gguf --batch 4,0");
  refused({"--ctx"}, "bench ok.gguf --ctx many");
  write_file(dir_ / "short.txt", "t1");
  refused({"short.txt", "fewer than a prompt of 8"}, "bench ok.gguf -p 8 -n 2 --text short.txt");
}

TEST_F(BadInput, Questions) {
  ASSERT_EQ(nibble_program(dir_, "convert in -o ok.gguf --to f32").code, 0);
  const auto questions = [&](const char* kind, const std::string& text,
                             const std::vector<std::string>& words) {
    write_file(dir_ / "q.jsonl", text);
    refused(words, std::string("eval ok.gguf --") + kind + " q.jsonl");
  };
  questions("text", "\xff", {"q.jsonl", "not UTF-8"});
  for (const char* kind : {"task", "choices"}) {
    questions(kind, "", {"q.jsonl", "no items"});
    questions(kind, "{}\n\n{", {"q.jsonl", "line 3", "not valid JSON"});
    questions(kind, "[]", {"q.jsonl", "line 1", "object"});
  }
  questions("task", R"({"prompt": "a"})", {"q.jsonl: item 1", "expected"});
  questions("task", R"({"prompt": "a", "expected": "b", "match": "near"})", {"item 1", "near"});
  questions("task", R"({"prompt": "a", "expected": "(", "match": "regex"})", {"item 1", "regular"});
  questions("task",
            R"({"prompt": "a", "match": "regex", "expected": ")" + std::string(30000, '(') + "\"}",
            {"item 1", "at most 1000"});
  questions("choices", R"({"context": "a", "endings": ["b"], "label": 0})", {"item 1", "endings"});
  questions("choices", R"({"context": "a", "endings": ["b", "c"], "label": 2})", {"label"});
}

}  // namespace
}  // namespace nibble
