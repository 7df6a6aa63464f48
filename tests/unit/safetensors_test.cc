#include <gmock/gmock.h>

#include <filesystem>

#include "container/safetensors_parse.h"
#include "support/checkpoints.h"
#include "support/temp_dir.h"

namespace nibble {
namespace {

using ::testing::HasSubstr;

constexpr char kGood[] = R"({"__metadata__":{"format":"pt"},)"
                         R"("b":{"dtype":"BF16","shape":[2,3],"data_offsets":[8,20]},)"
                         R"("a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                         R"("c":{"dtype":"F16","shape":[],"data_offsets":[20,22]}})";

Result<std::vector<RawTensor>> parse(const std::string& header, std::size_t data) {
  static std::string file;  // the tensors refer to it
  file = safetensors_file(header, std::string(data, 'x'));
  return parse_safetensors(std::as_bytes(std::span(file)));
}

void expect_refused(const std::string& header, std::size_t data, const char* reason) {
  const auto parsed = parse(header, data);
  ASSERT_FALSE(parsed) << header;
  EXPECT_THAT(parsed.error().message(), HasSubstr(reason));
  EXPECT_EQ(parsed.error().message().find('\n'), std::string::npos);
}

std::string one(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return R"({"x":{"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets +
         "}}";
}

TEST(Safetensors, TensorsComeInTheOrderOfTheirData) {
  const auto tensors = parse(kGood, 22);
  ASSERT_TRUE(tensors) << tensors.error().message();
  ASSERT_EQ(tensors->size(), 3u);
  EXPECT_EQ((*tensors)[0].name, "a");
  EXPECT_EQ((*tensors)[1].name, "b");
  EXPECT_EQ((*tensors)[1].dtype->name, "BF16");
  EXPECT_EQ((*tensors)[1].shape, (std::vector<std::uint64_t>{2, 3}));
  EXPECT_EQ((*tensors)[2].data.size(), 2u);
  EXPECT_EQ((*tensors)[1].data.data() - (*tensors)[0].data.data(), 8);
}

TEST(Safetensors, DataMustBeTiledExactly) {
  expect_refused(kGood, 21, "tensor 'c': data_offsets: ends at 22");
  expect_refused(kGood, 23, "the tensors end at 22");
  expect_refused(one("F32", "[2]", "[4,12]"), 12, "begins at 4, expected 0");
  expect_refused(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                 R"("b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
                 8, "begins at 0, expected 4");
}

TEST(Safetensors, FieldsAreChecked) {
  expect_refused(one("F32", "[2]", "[0,4]"), 4, "its shape needs 8");
  expect_refused(one("F32", "[2]", "[8,0]"), 8, "a beginning and an end");
  expect_refused(one("F32", "[2]", "[0]"), 8, "a beginning and an end");
  expect_refused(one("F32", "[-1]", "[0,4]"), 4, "'shape'");
  expect_refused(one("F32", "[1.5]", "[0,4]"), 4, "'shape'");
  expect_refused(one("F32", "2", "[0,8]"), 8, "'shape' is not a list");
  expect_refused(one("F32", "[0]", "[0,0]"), 0, "a dimension is 0");
  expect_refused(one("F32", "[4294967296,4294967296,2]", "[0,4]"), 4, "overflows");
  expect_refused(one("F32", "[9223372036854775807]", "[0,4]"), 4, "shape");
  expect_refused(one("I65", "[1]", "[0,8]"), 8, "tensor 'x': has dtype 'I65'");
  expect_refused(one("F32", "[[1]]", "[0,4]"), 4, "nested too deeply");
  expect_refused(R"({"x":3})", 0, "is not an object");
  expect_refused(R"([])", 0, "does not begin with '{'");
  expect_refused(R"({"x":{}})", 0, "'dtype' is missing");
  expect_refused(R"({"x":{},"x":{}})", 0, "duplicate key");
  expect_refused("{\"\xff\":{}}", 0, "not valid JSON");
}

TEST(Safetensors, HeaderLengthIsLimited) {
  std::string file(16, '\xff');
  const auto parsed = parse_safetensors(std::as_bytes(std::span(file)));
  ASSERT_FALSE(parsed);
  EXPECT_THAT(parsed.error().message(), HasSubstr("header length"));
}

class Directory : public ::testing::Test {
 protected:
  void shard(const std::string& file, const std::string& tensor) {
    write_file(
        dir_ / file,
        safetensors_file("{\"" + tensor + R"(":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
                         "1234"));
  }
  void index(const std::string& map) {
    write_file(dir_ / "model.safetensors.index.json", "{\"weight_map\":{" + map + "}}");
  }
  void expect_error(const char* reason) {
    const auto source = open_source(dir_.path());
    ASSERT_FALSE(source);
    EXPECT_THAT(source.error().message(), HasSubstr(reason));
  }
  TempDir dir_;
};

TEST_F(Directory, ReadsItsDescription) {
  write_file(dir_ / "config.json", R"({"model_type":"llama"})");
  write_file(dir_ / "tokenizer.json", "any text");
  write_file(dir_ / "chat_template.jinja", "{{ x }}");
  shard("model.safetensors", "a");
  for (const std::string& path : {dir_.path(), dir_ / "model.safetensors"}) {
    const auto source = open_source(path);
    ASSERT_TRUE(source) << source.error().message();
    EXPECT_EQ((*source)->container(), "safetensors");
    ASSERT_TRUE((*source)->hf());
    EXPECT_EQ((*source)->hf()->config["model_type"], "llama");
    EXPECT_EQ((*source)->hf()->tokenizer_json, "any text");
    EXPECT_EQ((*source)->hf()->chat_template, "{{ x }}");
    EXPECT_TRUE((*source)->hf()->tokenizer_config.is_null());
  }
}

TEST_F(Directory, WithoutAConfigFails) {
  shard("model.safetensors", "a");
  expect_error("config.json: missing");
  write_file(dir_ / "config.json", "[1]");
  expect_error("expected a JSON object");
  write_file(dir_ / "config.json", "{");
  expect_error("config.json: not valid JSON");
}

TEST_F(Directory, WithoutTensorsFails) {
  write_file(dir_ / "config.json", "{}");
  expect_error("0 .safetensors files");
  shard("a.safetensors", "a");
  EXPECT_TRUE(open_source(dir_.path()));
  shard("b.safetensors", "b");
  expect_error("2 .safetensors files");
}

TEST_F(Directory, ShardsFollowTheIndex) {
  write_file(dir_ / "config.json", "{}");
  shard("m-1.safetensors", "a");
  shard("m-2.safetensors", "b");
  index(R"("b":"m-2.safetensors","a":"m-1.safetensors")");
  const auto source = open_source(dir_.path());
  ASSERT_TRUE(source) << source.error().message();
  ASSERT_EQ((*source)->tensors().size(), 2u);
  EXPECT_EQ((*source)->tensors()[0].name, "a");
  EXPECT_EQ((*source)->files().size(), 2u);
}

TEST_F(Directory, WrongIndexesFail) {
  write_file(dir_ / "config.json", "{}");
  shard("m-1.safetensors", "a");
  index(R"("a":"m-1.safetensors","b":"m-1.safetensors")");
  expect_error("tensor 'b' is missing from 'm-1.safetensors'");
  index(R"("a":"m-1.safetensors","b":"m-2.safetensors")");
  expect_error("m-2.safetensors: cannot open");
  shard("m-2.safetensors", "a");
  expect_error("tensor 'a' occurs twice");
  index(R"("a":"../m-1.safetensors")");
  expect_error("expected the name of a .safetensors file");
  index(R"("a":3)");
  expect_error("expected the name of a .safetensors file");
  write_file(dir_ / "model.safetensors.index.json", "[]");
  expect_error("weight_map");
}

}  // namespace
}  // namespace nibble
