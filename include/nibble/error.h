// Errors of the public API: every function that can fail returns Result<T>; nothing throws, prints
// or exits.
#pragma once

#include <string>
#include <tl/expected.hpp>
#include <utility>

namespace nibble {

enum class ErrorCode {
  invalid,      // the caller asked for something that makes no sense
  corrupt,      // a file or message contradicts its own format
  unsupported,  // well-formed, but nibble cannot handle it
  io,           // the operating system or the network said no
  cancelled,    // the caller asked to stop
  internal,     // a fault of nibble itself
};

/// What went wrong, in one line: `model.gguf: tensor 'blk.0.attn_q.weight': offset 96+512 beyond
/// file size 400`.
class [[nodiscard]] Error {
 public:
  Error(ErrorCode code, std::string message) : code_(code), message_(std::move(message)) {}
  ErrorCode code() const { return code_; }
  const std::string& message() const { return message_; }
  /// The same error, with `where` put in front: callers name the file, then the tensor, then the
  /// field.
  Error in(const std::string& where) const { return Error(code_, where + ": " + message_); }

 private:
  ErrorCode code_;
  std::string message_;
};

template <class T>
using Result = tl::expected<T, Error>;

}  // namespace nibble
