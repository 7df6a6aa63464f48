// Where the models made for a comparison lie, and what they are called.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"

namespace nibble {

struct CompareTarget {
  std::string name;   // "Q4_K_M", "gptq:int4-g128": what quantize() is told, and what people read
  std::string entry;  // of the directory they are made in: "Q4_K_M.gguf", "gptq-int4-g128"
  bool gguf = true;
};

/// "gguf:" in front is dropped; a target with another scheme becomes a directory. Errors: none, or
/// one twice.
Result<std::vector<CompareTarget>> parse_targets(const std::vector<std::string>& targets);

/// What a finished model is called: its last name, or the whole path where others have that too.
std::vector<std::string> names_of(const std::vector<std::string>& paths);

/// A directory that is there as long as this object, and goes with its contents. One that is kept
/// goes only if it was made here and nothing came into it.
class Place {
 public:
  Place(Place&& other) noexcept { *this = std::move(other); }
  Place& operator=(Place&& other) noexcept {
    std::swap(path_, other.path_);
    std::swap(kept_, other.kept_);
    std::swap(made_, other.made_);
    return *this;
  }
  ~Place();

  /// `keep`: this very directory, made if it is not there. Else a new one inside `scratch`.
  static Result<Place> make(const std::string& keep, const std::string& scratch);
  std::string operator/(const std::string& entry) const { return path_ + "/" + entry; }

 private:
  Place(std::string path, bool kept, bool made)
      : path_(std::move(path)), kept_(kept), made_(made) {}
  std::string path_;  // empty: moved from
  bool kept_ = false, made_ = false;
};

}  // namespace nibble
