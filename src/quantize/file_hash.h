// SHA-256 of files, computed on a thread of its own beside the work that reads them.
#pragma once

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "base/result.h"

namespace nibble {

class FileHasher {
 public:
  /// Starts at once.
  explicit FileHasher(std::vector<std::string> paths);
  ~FileHasher();  // gives up if it is not finished

  /// Waits; 64 hexadecimal digits a file, in order.
  Result<std::vector<std::string>> finish();

 private:
  void work();

  std::vector<std::string> paths_, hashes_;
  Status status_;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

}  // namespace nibble
