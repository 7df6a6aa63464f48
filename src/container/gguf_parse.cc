#include "container/gguf_parse.h"

#include <algorithm>
#include <utility>

#include "base/checked.h"
#include "base/utf8.h"
#include "container/byte_reader.h"

namespace nibble {
namespace {

constexpr std::string_view kTypeNames[] = {
    "F32",   "F16",        "Q4_0",       "Q4_1",       "Q4_2",     "Q4_3",     "Q5_0",
    "Q5_1",  "Q8_0",       "Q8_1",       "Q2_K",       "Q3_K",     "Q4_K",     "Q5_K",
    "Q6_K",  "Q8_K",       "IQ2_XXS",    "IQ2_XS",     "IQ3_XXS",  "IQ1_S",    "IQ4_NL",
    "IQ3_S", "IQ2_S",      "IQ4_XS",     "I8",         "I16",      "I32",      "I64",
    "F64",   "IQ1_M",      "BF16",       "Q4_0_4_4",   "Q4_0_4_8", "Q4_0_8_8", "TQ1_0",
    "TQ2_0", "IQ4_NL_4_4", "IQ4_NL_4_8", "IQ4_NL_8_8", "MXFP4",    "NVFP4",    "Q1_0",
    "Q2_0"};

template <class T>
Result<T> read_scalar(ByteReader& in) {
  if constexpr (std::is_same_v<T, std::string>) {
    NIBBLE_TRY(const std::string_view text, in.string<std::uint64_t>());
    return std::string(text);
  } else if constexpr (std::is_same_v<T, bool>) {
    NIBBLE_TRY(const auto x, in.read<std::uint8_t>());
    if (x > 1) return fail(ErrorCode::corrupt, "bool is {}, expected 0 or 1", x);
    return x == 1;
  } else {
    return in.read<T>();
  }
}

template <class T>
Result<std::vector<T>> read_array(ByteReader& in) {
  constexpr std::uint64_t kLeast = std::is_same_v<T, std::string> ? 8 : sizeof(T);
  NIBBLE_TRY(const auto n, in.read<std::uint64_t>());
  if (n > in.left() / kLeast)
    return fail(ErrorCode::corrupt, "truncated: array of {} values at offset {}, {} bytes left", n,
                in.position(), in.left());
  std::vector<T> values;
  if constexpr (std::is_same_v<T, std::string> || std::is_same_v<T, bool>) {
    values.reserve(n);
    for (std::uint64_t i = 0; i < n; ++i) {
      NIBBLE_TRY(T value, read_scalar<T>(in));
      values.push_back(std::move(value));
    }
  } else {
    NIBBLE_TRY(const auto bytes, in.take(n, sizeof(T)));
    values.resize(n);
    if (n > 0) std::memcpy(values.data(), bytes.data(), bytes.size());
  }
  return values;
}

/// The value of type number `type`, or an array of such values.
template <std::size_t... Scalar>
Result<MetaValue> read_as(ByteReader& in, std::uint32_t type, bool array,
                          std::index_sequence<Scalar...>) {
  Result<MetaValue> value = fail(ErrorCode::corrupt, "unknown value type {}", type);
  const auto attempt = [&]<std::size_t I>() {
    using T = std::variant_alternative_t<I, MetaValue>;
    if (gguf_value_type(I) != type) return false;
    if (array)
      value = read_array<T>(in).map([](auto v) { return MetaValue(std::move(v)); });
    else
      value = read_scalar<T>(in).map([](T v) { return MetaValue(std::move(v)); });
    return true;
  };
  (attempt.template operator()<Scalar>() || ...);
  return value;
}

Result<MetaValue> read_value(ByteReader& in) {
  NIBBLE_TRY(std::uint32_t type, in.read<std::uint32_t>());
  const bool array = type == kGgufArray;
  if (array) {
    NIBBLE_TRY(type, in.read<std::uint32_t>());
    if (type == kGgufArray)
      return fail(ErrorCode::unsupported, "arrays inside arrays are not supported");
  }
  return read_as(in, type, array, std::make_index_sequence<kMetaScalars>());
}

Result<Metadata> read_metadata(ByteReader& in, std::uint64_t count) {
  std::vector<Metadata::Entry> entries;
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::string where = fmt::format("metadata entry {} of {}", i + 1, count);
    NIBBLE_TRY_IN(where, const auto key, in.string<std::uint64_t>());
    if (key.empty() || !is_utf8(key))
      return fail(ErrorCode::corrupt, "{}: key {} is empty or not UTF-8", where, quote(key));
    NIBBLE_TRY_IN("metadata key " + quote(key), MetaValue value, read_value(in));
    entries.emplace_back(key, std::move(value));
  }
  return Metadata::from(std::move(entries));
}

struct RawTensor {
  TensorInfo info;
  std::uint64_t offset = 0;  // from the start of the data
};

Status read_shape(ByteReader& in, std::vector<std::uint64_t>& shape) {
  NIBBLE_TRY(const auto n, in.read<std::uint32_t>());
  if (n > kGgufMaxDims) return fail(ErrorCode::corrupt, "{} dimensions, at most 4 can be", n);
  shape.resize(n);
  for (std::uint32_t i = 0; i < n; ++i) {
    NIBBLE_TRY(shape[n - 1 - i], in.read<std::uint64_t>());
  }
  return {};
}

/// Everything of a tensor's entry that follows its name.
Status read_tensor(ByteReader& in, RawTensor& tensor) {
  NIBBLE_DO(read_shape(in, tensor.info.shape));
  NIBBLE_TRY(const auto type, in.read<std::uint32_t>());
  NIBBLE_TRY(tensor.offset, in.read<std::uint64_t>());
  tensor.info.format = type < 0x10000 ? find_format_by_ggml_type(int(type)) : nullptr;
  if (!tensor.info.format)
    return fail(ErrorCode::unsupported, "has type {} ({}), which nibble cannot read yet", type,
                ggml_type_name(type));
  NIBBLE_TRY(tensor.info.bytes, stored_bytes(*tensor.info.format, tensor.info.shape));
  return {};
}

Result<std::vector<RawTensor>> read_tensors(ByteReader& in, std::uint64_t count) {
  std::vector<RawTensor> tensors;
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::string where = fmt::format("tensor {} of {}", i + 1, count);
    RawTensor tensor;
    NIBBLE_TRY_IN(where, const auto name, in.string<std::uint64_t>());
    if (name.empty() || name.size() > kGgufMaxName || !is_utf8(name))
      return fail(ErrorCode::corrupt, "{}: name {} is empty, longer than {} bytes or not UTF-8",
                  where, quote(name), kGgufMaxName);
    tensor.info.name = name;
    NIBBLE_DO_IN("tensor " + quote(name), read_tensor(in, tensor));
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

/// Offsets must be the running sum of the padded sizes, and the data must lie inside the file.
Status place_tensors(std::vector<RawTensor> raw, std::uint64_t header_end, std::uint64_t file_size,
                     GgufHeader& header) {
  NIBBLE_TRY(const auto base, checked_align(header_end, header.alignment));
  std::uint64_t expected = 0;
  for (RawTensor& tensor : raw) {
    const std::string where = "tensor " + quote(tensor.info.name);
    if (tensor.offset != expected)
      return fail(ErrorCode::corrupt, "{}: offset {}, expected {}", where, tensor.offset, expected);
    NIBBLE_TRY_IN(where, const auto begin, checked_add(base, expected));
    NIBBLE_TRY_IN(where, const auto end, checked_add(begin, tensor.info.bytes));
    if (end > file_size)
      return fail(ErrorCode::corrupt, "{}: offset {}+{} beyond file size {}", where, begin,
                  tensor.info.bytes, file_size);
    NIBBLE_TRY_IN(where, expected, checked_align(end - base, header.alignment));
    header.offsets.push_back(begin);
    header.tensors.push_back(std::move(tensor.info));
  }
  return {};
}

Result<std::uint32_t> read_version(ByteReader& in) {
  NIBBLE_TRY(const auto magic, in.take(4));
  if (std::memcmp(magic.data(), "GGUF", 4) != 0)
    return fail(ErrorCode::corrupt, "does not begin with 'GGUF'");
  NIBBLE_TRY(const auto version, in.read<std::uint32_t>());
  if (version != 0 && (version & 0xffff) == 0)
    return fail(ErrorCode::unsupported, "big-endian GGUF is not supported");
  if (version != 2 && version != 3)
    return fail(ErrorCode::unsupported, "GGUF version {}, nibble reads 2 and 3", version);
  return version;
}

}  // namespace

std::string_view ggml_type_name(std::uint32_t type) {
  return type < std::size(kTypeNames) ? kTypeNames[type] : "unknown";
}

Result<GgufHeader> parse_gguf(std::span<const std::byte> file) {
  // The least that an entry takes: key or name length, type; n_dims, type, offset.
  constexpr std::uint64_t kLeastEntry = 8 + 1 + 4 + 1, kLeastTensor = 8 + 1 + 4 + 4 + 8;
  ByteReader in(file);
  GgufHeader header;
  NIBBLE_TRY(header.version, read_version(in));
  NIBBLE_TRY(const auto n_tensors, in.read<std::uint64_t>());
  NIBBLE_TRY(const auto n_entries, in.read<std::uint64_t>());
  if (n_entries > in.left() / kLeastEntry || n_tensors > in.left() / kLeastTensor)
    return fail(ErrorCode::corrupt, "truncated: {} metadata entries and {} tensors in {} bytes",
                n_entries, n_tensors, file.size());
  NIBBLE_TRY(header.metadata, read_metadata(in, n_entries));
  NIBBLE_TRY(const auto alignment,
             header.metadata.uint_or("general.alignment", kGgufDefaultAlignment));
  if (alignment == 0 || alignment > 1u << 31 || (alignment & (alignment - 1)) != 0)
    return fail(ErrorCode::corrupt, "general.alignment: {} is not a power of two", alignment);
  header.alignment = std::uint32_t(alignment);
  NIBBLE_TRY(auto raw, read_tensors(in, n_tensors));
  NIBBLE_DO(place_tensors(std::move(raw), in.position(), file.size(), header));
  return header;
}

}  // namespace nibble
