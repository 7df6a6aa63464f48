// Reads little-endian fields from untrusted bytes; running past the end is an error.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <type_traits>

#include "base/result.h"

namespace nibble {

static_assert(std::endian::native == std::endian::little, "files are little-endian");

class ByteReader {
 public:
  explicit ByteReader(std::span<const std::byte> bytes) : bytes_(bytes) {}

  std::uint64_t position() const { return position_; }
  std::uint64_t left() const { return bytes_.size() - position_; }

  /// The next `n` bytes, `size` each.
  Result<std::span<const std::byte>> take(std::uint64_t n, std::uint64_t size = 1) {
    if (n > left() / size)
      return fail(ErrorCode::corrupt, "truncated: {} x {} bytes at offset {}, {} left", n, size,
                  position_, left());
    const auto taken = bytes_.subspan(position_, n * size);
    position_ += n * size;
    return taken;
  }

  template <class T>
  Result<T> read() {
    static_assert(std::is_trivially_copyable_v<T>);
    NIBBLE_TRY(const auto bytes, take(1, sizeof(T)));
    T value;
    std::memcpy(&value, bytes.data(), sizeof(T));
    return value;
  }

  template <class Length>
  Result<std::string_view> string() {
    NIBBLE_TRY(const Length length, read<Length>());
    if (std::is_signed_v<Length> && length < Length(0))
      return fail(ErrorCode::corrupt, "negative string length");
    NIBBLE_TRY(const auto bytes, take(std::uint64_t(length)));
    return std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }

 private:
  std::span<const std::byte> bytes_;
  std::uint64_t position_ = 0;
};

}  // namespace nibble
