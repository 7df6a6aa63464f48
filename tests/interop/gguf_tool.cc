// Reads and writes GGUF files for gguf_test.py:
//   gguf_tool write DIR         writes DIR/one.gguf, DIR/split-*.gguf and DIR/imatrix.gguf
//   gguf_tool dump FILE         prints what nibble reads from FILE as JSON
//   gguf_tool split SRC DST N   copies SRC into parts of at most N bytes of tensors
#include <cstdio>
#include <string_view>

#include "base/hash.h"
#include "base/json.h"
#include "container/imatrix.h"
#include "support/checkpoints.h"

namespace nibble {
namespace {

Status write(const std::string& directory) {
  const std::vector<Sample> samples = {
      make_sample("vector", "f32", {5}), make_sample("matrix", "q4_0", {3, 64}),
      make_sample("half", "f16", {2, 3, 7}), make_sample("wide", "q6_k", {2, 2, 2, 256})};
  NIBBLE_TRY([[maybe_unused]] const auto one,
             write_gguf(directory + "/one.gguf", all_types(), samples));
  NIBBLE_TRY([[maybe_unused]] const auto split,
             write_gguf(directory + "/split.gguf", all_types(), samples, {.split_bytes = 200}));
  Imatrix imatrix;
  imatrix.entries["blk.0.attn_q.weight"] = {{0.5f, 0.25f}, {4}};
  imatrix.entries["blk.0.ffn_up_exps.weight"] = {{1, 2, 3, 4}, {8, 2}};
  imatrix.chunk_count = 3;
  imatrix.chunk_size = 512;
  imatrix.datasets = {"text"};
  return write_imatrix(directory + "/imatrix.gguf", imatrix);
}

/// Strings become lists of bytes: they need not be UTF-8.
Json plain(const std::string& text) {
  Json bytes = Json::array();
  for (const char c : text) bytes.push_back(std::uint8_t(c));
  return bytes;
}
template <class T>
Json plain(const T& value) {
  return value;
}
template <class T>
Json plain(const std::vector<T>& values) {
  Json list = Json::array();
  for (const auto& value : values) list.push_back(plain(T(value)));
  return list;
}

Status dump(const std::string& path) {
  NIBBLE_TRY(const auto source, open_source(path));
  Json keys = Json::object(), tensors = Json::array();
  for (const auto& [key, value] : source->metadata().entries())
    keys[key] = std::visit([](const auto& x) { return plain(x); }, value);
  for (std::size_t i = 0; i < source->tensors().size(); ++i) {
    const TensorInfo& tensor = source->tensors()[i];
    Sha256 hash;
    hash.update(source->data(i));
    tensors.push_back({{"name", tensor.name},
                       {"shape", tensor.shape},
                       {"type", tensor.format->spec().ggml_type},
                       {"sha256", hash.hex()}});
  }
  std::puts(Json{{"keys", keys}, {"tensors", tensors}}.dump().c_str());
  return {};
}

Status split(const std::string& from, const std::string& to, std::uint64_t bytes) {
  NIBBLE_TRY(const auto source, open_source(from));
  NIBBLE_TRY(auto writer,
             create_gguf(to, source->metadata(), source->tensors(), {.split_bytes = bytes}));
  for (std::size_t i = 0; i < source->tensors().size(); ++i)
    NIBBLE_DO(writer->write(i, source->data(i)));
  NIBBLE_TRY(const auto paths, writer->finish());
  std::puts(Json(paths).dump().c_str());
  return {};
}

Status run(const std::vector<std::string>& arguments) {
  if (arguments.size() == 2 && arguments[0] == "write") return write(arguments[1]);
  if (arguments.size() == 2 && arguments[0] == "dump") return dump(arguments[1]);
  if (arguments.size() == 4 && arguments[0] == "split")
    return split(arguments[1], arguments[2], std::stoull(arguments[3]));
  return fail(ErrorCode::invalid, "write DIR | dump FILE | split SRC DST BYTES");
}

}  // namespace
}  // namespace nibble

int main(int argc, char** argv) {
  const auto status = nibble::run({argv + 1, argv + argc});
  if (status) return 0;
  std::fprintf(stderr, "gguf_tool: %s\n", status.error().message().c_str());
  return 2;
}
