// Cryptographic hashes, for provenance and downloads.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

namespace nibble {

class Digest {
 public:
  ~Digest();
  void update(std::span<const std::byte> bytes);
  std::string hex();  // lower-case digits; ends the computation

 protected:
  struct State;
  explicit Digest(const char* algorithm);

 private:
  std::unique_ptr<State> state_;
};

class Sha256 : public Digest {  // 64 digits
 public:
  Sha256();
};

/// Only to compare with names that git gave: it protects against accidents, not against attacks.
class Sha1 : public Digest {  // 40 digits
 public:
  Sha1();
};

}  // namespace nibble
