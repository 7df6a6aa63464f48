// Tensors as a .safetensors file holds them, whatever they mean.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "format/format.h"

namespace nibble {

struct Dtype {
  std::string_view name;  // "BF16"
  std::size_t bytes;
  const char* format;  // what nibble has for it, or null
};
/// nullptr if there is none of that name.
const Dtype* find_dtype(std::string_view name);

struct RawTensor {
  std::string name;
  const Dtype* dtype = nullptr;
  std::vector<std::uint64_t> shape;  // outermost first
  std::span<const std::byte> data;   // little-endian; not aligned

  bool is(std::string_view type) const { return dtype->name == type; }
  std::string describe() const;  // "I32 [64, 128]"
};

/// Element `index` of a tensor of floating point numbers (F32, F16, BF16, F8_E4M3).
float number_at(const RawTensor& tensor, std::uint64_t index);
bool is_floating(const RawTensor& tensor);
/// Whether a tensor of F8_E4M3 holds neither of the two bytes that are no number.
bool is_finite_e4m3(const RawTensor& tensor);

/// Element `index` of a tensor of I32 or U32.
inline std::uint32_t word_at(const RawTensor& tensor, std::uint64_t index) {
  std::uint32_t word;
  __builtin_memcpy(&word, tensor.data.data() + index * 4, 4);
  return word;
}
inline std::uint8_t byte_at(const RawTensor& tensor, std::uint64_t index) {
  return std::uint8_t(tensor.data[index]);
}

/// `bits` bits of field `index` in a stream of 32-bit words, low bits first; words of a stream lie
/// `stride` words apart, the first at `begin`. Fields may lie across two words.
inline std::uint32_t field_at(const RawTensor& words, std::uint64_t begin, std::uint64_t stride,
                              std::uint64_t index, unsigned bits) {
  const std::uint64_t at = index * bits;
  const unsigned shift = unsigned(at % 32);
  std::uint64_t both = word_at(words, begin + at / 32 * stride);
  if (shift + bits > 32)
    both |= std::uint64_t(word_at(words, begin + (at / 32 + 1) * stride)) << 32;
  return std::uint32_t(both >> shift) & ((1u << bits) - 1);
}

/// The inverse, on words that were 0 before.
inline void put_field(std::span<std::byte> words, std::uint64_t begin, std::uint64_t stride,
                      std::uint64_t index, unsigned bits, std::uint32_t value) {
  const auto add = [&](std::uint64_t word, std::uint32_t more) {
    std::uint32_t stored;
    __builtin_memcpy(&stored, words.data() + word * 4, 4);
    stored |= more;
    __builtin_memcpy(words.data() + word * 4, &stored, 4);
  };
  const std::uint64_t at = index * bits;
  const unsigned shift = unsigned(at % 32);
  add(begin + at / 32 * stride, value << shift);
  if (shift + bits > 32) add(begin + (at / 32 + 1) * stride, value >> (32 - shift));
}

/// Stores element `index` of a tensor of F32, F16 or BF16.
void put_number(std::span<std::byte> data, const Dtype& dtype, std::uint64_t index, float value);

/// All tensors of a checkpoint.
class RawTensors {
 public:
  explicit RawTensors(const std::vector<RawTensor>& tensors);
  /// nullptr if there is none.
  const RawTensor* find(const std::string& name) const;
  /// Error: names what is missing, or what it is instead. An extent of 0 may be anything.
  Result<const RawTensor*> get(const std::string& name, std::string_view dtype,
                               const std::vector<std::uint64_t>& shape) const;
  /// In the order of their names.
  const std::map<std::string, const RawTensor*>& all() const { return by_name_; }

 private:
  std::map<std::string, const RawTensor*> by_name_;
};

}  // namespace nibble
