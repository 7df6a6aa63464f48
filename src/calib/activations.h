// What waits between two transformer blocks: the activations of a whole text, in bfloat16.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "base/result.h"

namespace nibble {

class Activations {
 public:
  Activations() = default;
  Activations(Activations&& other) noexcept;
  Activations& operator=(Activations&& other) noexcept;
  ~Activations();

  /// For `tokens` rows of `width` values. `folder`: they lie in a nameless file there instead of in
  /// memory; empty: in memory. Errors: no room in the folder.
  static Result<Activations> create(std::uint64_t tokens, std::size_t width,
                                    const std::string& folder);

  std::size_t width() const { return width_; }
  std::uint64_t tokens() const { return tokens_; }
  /// values: whole rows from `token` on.
  void read(std::uint64_t token, std::span<float> values) const;
  void write(std::uint64_t token, std::span<const float> values);

 private:
  std::size_t bytes() const { return tokens_ * width_ * sizeof(std::uint16_t); }
  void release(std::uint64_t token, std::size_t values) const;

  std::uint64_t tokens_ = 0;
  std::size_t width_ = 1;
  std::uint16_t* values_ = nullptr;  // mapped
  bool in_file_ = false;
};

}  // namespace nibble
