#include "container/safetensors_parse.h"

#include <algorithm>

#include "base/checked.h"
#include "base/json.h"
#include "base/utf8.h"
#include "container/byte_reader.h"

namespace nibble {
namespace {

constexpr std::uint64_t kLongestHeader = 32u << 20;  // bounds the memory of parsing
constexpr int kDepth = 3;                            // {tensor: {field: [number]}}

struct Entry {
  RawTensor tensor;
  std::uint64_t begin = 0, end = 0;
};

/// Bytes of a tensor of this shape.
Result<std::uint64_t> raw_bytes(const Dtype& dtype, const std::vector<std::uint64_t>& shape) {
  std::uint64_t bytes = dtype.bytes;
  for (const std::uint64_t extent : shape) {
    if (extent == 0) return fail(ErrorCode::corrupt, "shape: a dimension is 0");
    NIBBLE_TRY_IN("shape", bytes, checked_mul(bytes, extent));
  }
  return bytes;
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
  NIBBLE_TRY(entry.tensor.shape, read_numbers(object, "shape"));
  NIBBLE_TRY(const auto offsets, read_numbers(object, "data_offsets"));
  if (offsets.size() != 2 || offsets[0] > offsets[1])
    return fail(ErrorCode::corrupt, "data_offsets: expected a beginning and an end");
  entry.begin = offsets[0];
  entry.end = offsets[1];
  entry.tensor.dtype = find_dtype(dtype);
  if (!entry.tensor.dtype)
    return fail(ErrorCode::unsupported, "has dtype {}, which nibble does not know", quote(dtype));
  NIBBLE_TRY(const std::uint64_t bytes, raw_bytes(*entry.tensor.dtype, entry.tensor.shape));
  if (bytes != entry.end - entry.begin)
    return fail(ErrorCode::corrupt, "data_offsets: {} bytes, but its shape needs {}",
                entry.end - entry.begin, bytes);
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
    entry.tensor.name = name;
    NIBBLE_DO_IN("tensor " + quote(name), read_entry(object, entry));
    entries.push_back(std::move(entry));
  }
  return entries;
}

}  // namespace

Result<std::vector<RawTensor>> parse_safetensors(std::span<const std::byte> file) {
  ByteReader in(file);
  NIBBLE_TRY_IN("header length", const auto length, in.read<std::uint64_t>());
  if (length > kLongestHeader)
    return fail(ErrorCode::corrupt, "header length: {}, at most {} can be", length, kLongestHeader);
  NIBBLE_TRY_IN("header", const auto text, in.take(length));
  NIBBLE_TRY(auto entries, read_entries({reinterpret_cast<const char*>(text.data()), length}));
  std::sort(entries.begin(), entries.end(),
            [](const Entry& a, const Entry& b) { return a.begin < b.begin; });
  std::vector<RawTensor> tensors;
  std::uint64_t expected = 0;
  for (Entry& entry : entries) {
    const std::string where = "tensor " + quote(entry.tensor.name);
    if (entry.begin != expected)
      return fail(ErrorCode::corrupt, "{}: data_offsets: begins at {}, expected {}", where,
                  entry.begin, expected);
    if (entry.end > in.left())
      return fail(ErrorCode::corrupt, "{}: data_offsets: ends at {}, the file has {} bytes of data",
                  where, entry.end, in.left());
    expected = entry.end;
    entry.tensor.data = file.subspan(in.position() + entry.begin, entry.end - entry.begin);
    tensors.push_back(std::move(entry.tensor));
  }
  if (expected != in.left())
    return fail(ErrorCode::corrupt, "{} bytes of data, but the tensors end at {}", in.left(),
                expected);
  return tensors;
}

}  // namespace nibble
