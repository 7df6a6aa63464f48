// How the library tells a caller what it is doing. The library itself never prints.
#pragma once

#include <cstdint>
#include <string_view>

namespace nibble {

/// Receives the steps of a long operation. Called from one thread at a time.
class Progress {
 public:
  virtual ~Progress() = default;
  /// A phase of `total` units starts ("bytes", "tokens", "tensors").
  virtual void begin(std::string_view phase, std::uint64_t total, std::string_view unit) = 0;
  /// `done` units of the phase are finished.
  virtual void update(std::uint64_t done) = 0;
  virtual void end() = 0;
  /// A remark for the user: a fallback taken, a suspicious value.
  virtual void note(std::string_view message) = 0;
  /// True when the operation should stop with ErrorCode::cancelled at the next safe point.
  virtual bool cancelled() const { return false; }
};

/// A Progress that ignores everything.
Progress& no_progress();

}  // namespace nibble
