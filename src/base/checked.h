// Overflow-checked size arithmetic. Sizes that come from a file are only ever computed with these.
#pragma once

#include <cstdint>

#include "base/result.h"

namespace nibble {

inline Result<std::uint64_t> checked_add(std::uint64_t a, std::uint64_t b) {
  std::uint64_t sum;
  if (__builtin_add_overflow(a, b, &sum))
    return fail(ErrorCode::corrupt, "size {} + {} overflows", a, b);
  return sum;
}

inline Result<std::uint64_t> checked_mul(std::uint64_t a, std::uint64_t b) {
  std::uint64_t product;
  if (__builtin_mul_overflow(a, b, &product))
    return fail(ErrorCode::corrupt, "size {} * {} overflows", a, b);
  return product;
}

/// The smallest multiple of `alignment` (not zero) that is at least `n`.
inline Result<std::uint64_t> checked_align(std::uint64_t n, std::uint64_t alignment) {
  const std::uint64_t rest = n % alignment;
  return rest == 0 ? Result<std::uint64_t>(n) : checked_add(n, alignment - rest);
}

}  // namespace nibble
