// SHA-256, for provenance and downloads.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

namespace nibble {

class Sha256 {
 public:
  Sha256();
  ~Sha256();
  void update(std::span<const std::byte> bytes);
  std::string hex();  // 64 lower-case digits; ends the computation

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace nibble
