// Helpers around Result<T> for the library's own code.
#pragma once

#include <fmt/format.h>

#include "nibble/error.h"

namespace nibble {

using Status = Result<void>;

/// `return fail(ErrorCode::corrupt, "offset {} beyond size {}", a, b);`
template <class... Args>
[[nodiscard]] tl::unexpected<Error> fail(ErrorCode code, fmt::format_string<Args...> format,
                                         Args&&... args) {
  return tl::unexpected<Error>(Error(code, fmt::format(format, std::forward<Args>(args)...)));
}

#define NIBBLE_CONCAT_(a, b) a##b
#define NIBBLE_CONCAT(a, b) NIBBLE_CONCAT_(a, b)

/// NIBBLE_TRY(auto x, f()): x is the value, or the enclosing function returns the error.
#define NIBBLE_TRY(declaration, ...)                                                         \
  auto NIBBLE_CONCAT(nibble_result_, __LINE__) = (__VA_ARGS__);                              \
  if (!NIBBLE_CONCAT(nibble_result_, __LINE__))                                              \
    return tl::unexpected<::nibble::Error>(NIBBLE_CONCAT(nibble_result_, __LINE__).error()); \
  declaration = std::move(*NIBBLE_CONCAT(nibble_result_, __LINE__))

/// NIBBLE_TRY_IN(where, auto x, f()): the same, with `where` put in front of the message.
#define NIBBLE_TRY_IN(where, declaration, ...)                      \
  auto NIBBLE_CONCAT(nibble_result_, __LINE__) = (__VA_ARGS__);     \
  if (!NIBBLE_CONCAT(nibble_result_, __LINE__))                     \
    return tl::unexpected<::nibble::Error>(                         \
        NIBBLE_CONCAT(nibble_result_, __LINE__).error().in(where)); \
  declaration = std::move(*NIBBLE_CONCAT(nibble_result_, __LINE__))

/// NIBBLE_DO(f()): for Status results.
#define NIBBLE_DO(...)                                                          \
  do {                                                                          \
    if (auto nibble_status = (__VA_ARGS__); !nibble_status)                     \
      return tl::unexpected<::nibble::Error>(std::move(nibble_status).error()); \
  } while (0)

#define NIBBLE_DO_IN(where, ...)                                               \
  do {                                                                         \
    if (auto nibble_status = (__VA_ARGS__); !nibble_status)                    \
      return tl::unexpected<::nibble::Error>(nibble_status.error().in(where)); \
  } while (0)

/// For faults of nibble itself only; never reachable from input.
[[noreturn]] void check_failed(const char* condition, const char* file, int line);
#define NIBBLE_CHECK(condition) \
  ((condition) ? (void)0 : ::nibble::check_failed(#condition, __FILE__, __LINE__))

}  // namespace nibble
