#include "container/safetensors_parse.h"

#include <algorithm>

#include "base/utf8.h"
#include "container/byte_reader.h"

namespace nibble {
namespace {

constexpr std::uint64_t kLongestHeader = 32u << 20;  // bounds the memory of parsing
constexpr int kDepth = 3;                            // {tensor: {field: [number]}}

struct Entry {
  TensorInfo info;
  std::uint64_t begin = 0, end = 0;
};

const Format* format_of(std::string_view dtype) {
  if (dtype == "F32") return find_format("f32");
  if (dtype == "F16") return find_format("f16");
  if (dtype == "BF16") return find_format("bf16");
  return nullptr;
}

Result<std::vector<std::uint64_t>> read_numbers(const Json& object, const char* field) {
  const auto it = object.find(field);
  if (it == object.end() || !it->is_array())
    return fail(ErrorCode::corrupt, "field '{}' is not a list", field);
  std::vector<std::uint64_t> numbers;
  numbers.reserve(it->size());
  for (const Json& value : *it) {
    if (!value.is_number_unsigned())
      return fail(ErrorCode::corrupt, "field '{}' holds something else than whole numbers", field);
    numbers.push_back(value.get<std::uint64_t>());
  }
  return numbers;
}

Status read_entry(const Json& object, Entry& entry) {
  if (!object.is_object()) return fail(ErrorCode::corrupt, "is not an object");
  NIBBLE_TRY(const std::string dtype, json_string(object, "dtype"));
  NIBBLE_TRY(entry.info.shape, read_numbers(object, "shape"));
  NIBBLE_TRY(const auto offsets, read_numbers(object, "data_offsets"));
  if (offsets.size() != 2 || offsets[0] > offsets[1])
    return fail(ErrorCode::corrupt, "data_offsets: expected a beginning and an end");
  entry.begin = offsets[0];
  entry.end = offsets[1];
  entry.info.format = format_of(dtype);
  if (!entry.info.format)
    return fail(ErrorCode::unsupported, "has dtype {}, nibble reads F32, F16 and BF16",
                quote(dtype));
  NIBBLE_TRY(entry.info.bytes, stored_bytes(*entry.info.format, entry.info.shape));
  if (entry.info.bytes != entry.end - entry.begin)
    return fail(ErrorCode::corrupt, "data_offsets: {} bytes, but its shape needs {}",
                entry.end - entry.begin, entry.info.bytes);
  return {};
}

Result<std::vector<Entry>> read_entries(std::string_view text) {
  if (!text.starts_with('{')) return fail(ErrorCode::corrupt, "header does not begin with '{{'");
  NIBBLE_TRY_IN("header", const Json header, parse_json(text, kDepth));
  std::vector<Entry> entries;
  for (const auto& [name, object] : header.items()) {
    if (name == "__metadata__") continue;
    if (name.empty()) return fail(ErrorCode::corrupt, "header: a tensor has no name");
    Entry entry;
    entry.info.name = name;
    NIBBLE_DO_IN("tensor " + quote(name), read_entry(object, entry));
    entries.push_back(std::move(entry));
  }
  return entries;
}

}  // namespace

Result<SafetensorsHeader> parse_safetensors(std::span<const std::byte> file) {
  ByteReader in(file);
  NIBBLE_TRY_IN("header length", const auto length, in.read<std::uint64_t>());
  if (length > kLongestHeader)
    return fail(ErrorCode::corrupt, "header length: {}, at most {} can be", length, kLongestHeader);
  NIBBLE_TRY_IN("header", const auto text, in.take(length));
  NIBBLE_TRY(auto entries, read_entries({reinterpret_cast<const char*>(text.data()), length}));
  std::sort(entries.begin(), entries.end(),
            [](const Entry& a, const Entry& b) { return a.begin < b.begin; });
  SafetensorsHeader header;
  std::uint64_t expected = 0;
  for (Entry& entry : entries) {
    const std::string where = "tensor " + quote(entry.info.name);
    if (entry.begin != expected)
      return fail(ErrorCode::corrupt, "{}: data_offsets: begins at {}, expected {}", where,
                  entry.begin, expected);
    if (entry.end > in.left())
      return fail(ErrorCode::corrupt, "{}: data_offsets: ends at {}, the file has {} bytes of data",
                  where, entry.end, in.left());
    expected = entry.end;
    header.offsets.push_back(in.position() + entry.begin);
    header.tensors.push_back(std::move(entry.info));
  }
  if (expected != in.left())
    return fail(ErrorCode::corrupt, "{} bytes of data, but the tensors end at {}", in.left(),
                expected);
  return header;
}

}  // namespace nibble
