#include "container/raw_tensor.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "base/utf8.h"
#include "format/bits.h"

namespace nibble {
namespace {

constexpr Dtype kDtypes[] = {
    {"F32", 4, "f32"},       {"F16", 2, "f16"},       {"BF16", 2, "bf16"},
    {"F64", 8, nullptr},     {"F8_E4M3", 1, nullptr}, {"F8_E5M2", 1, nullptr},
    {"F8_E8M0", 1, nullptr}, {"I64", 8, nullptr},     {"I32", 4, nullptr},
    {"I16", 2, nullptr},     {"I8", 1, nullptr},      {"U64", 8, nullptr},
    {"U32", 4, nullptr},     {"U16", 2, nullptr},     {"U8", 1, nullptr},
    {"BOOL", 1, nullptr}};

}  // namespace

const Dtype* find_dtype(std::string_view name) {
  const auto found = std::ranges::find(kDtypes, name, &Dtype::name);
  return found == std::end(kDtypes) ? nullptr : found;
}

std::string RawTensor::describe() const {
  return fmt::format("{} [{}]", dtype->name, fmt::join(shape, ", "));
}

bool is_floating(const RawTensor& tensor) { return tensor.dtype->format || tensor.is("F8_E4M3"); }

bool is_finite_e4m3(const RawTensor& tensor) {
  return std::ranges::none_of(tensor.data,
                              [](std::byte b) { return (b & std::byte(0x7f)) == std::byte(0x7f); });
}

float number_at(const RawTensor& tensor, std::uint64_t index) {
  const std::byte* at = tensor.data.data() + index * tensor.dtype->bytes;
  if (tensor.is("F32")) return get_f32(at);
  if (tensor.is("F16")) return get_fp16(at);
  return tensor.is("BF16") ? bf16_to_f32(get_u16(at)) : e4m3_to_f32(get_u8(at));
}

void put_number(std::span<std::byte> data, const Dtype& dtype, std::uint64_t index, float value) {
  std::byte* at = data.data() + index * dtype.bytes;
  if (dtype.name == "F32")
    put_f32(at, value);
  else
    put_u16(at, dtype.name == "F16" ? f32_to_fp16(value) : f32_to_bf16(value));
}

RawTensors::RawTensors(const std::vector<RawTensor>& tensors) {
  for (const RawTensor& tensor : tensors) by_name_.emplace(tensor.name, &tensor);
}

const RawTensor* RawTensors::find(const std::string& name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : found->second;
}

Result<const RawTensor*> RawTensors::get(const std::string& name, std::string_view dtype,
                                         const std::vector<std::uint64_t>& shape) const {
  const RawTensor* tensor = find(name);
  if (!tensor) return fail(ErrorCode::corrupt, "tensor {} is missing", quote(name));
  const bool type = dtype == "number" ? is_floating(*tensor) : tensor->is(dtype);
  const bool fits =
      std::ranges::equal(tensor->shape, shape, [](auto a, auto b) { return b == 0 || a == b; });
  if (type && fits) return tensor;
  return fail(ErrorCode::corrupt, "tensor {} is {}, expected {} [{}]", quote(name),
              tensor->describe(), dtype, fmt::join(shape, ", "));
}

}  // namespace nibble
