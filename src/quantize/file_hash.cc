#include "quantize/file_hash.h"

#include <algorithm>

#include "base/file.h"
#include "base/hash.h"

namespace nibble {
namespace {

constexpr std::uint64_t kChunk = 4u << 20;

/// Empty if it was told to stop.
Result<std::string> hash_file(const std::string& path, const std::atomic<bool>& stop) {
  NIBBLE_TRY(const MappedFile file, MappedFile::open(path));
  Sha256 sha;
  for (std::uint64_t at = 0; at < file.size() && !stop; at += kChunk) {
    const std::uint64_t length = std::min(kChunk, file.size() - at);
    sha.update(file.bytes().subspan(at, length));
    file.release(at, length);
  }
  return sha.hex();
}

}  // namespace

FileHasher::FileHasher(std::vector<std::string> paths)
    : paths_(std::move(paths)), thread_([this] { work(); }) {}

FileHasher::~FileHasher() {
  stop_ = true;
  if (thread_.joinable()) thread_.join();
}

void FileHasher::work() {
  for (const std::string& path : paths_) {
    auto hash = hash_file(path, stop_);
    if (!hash) {
      status_ = tl::unexpected<Error>(hash.error());
      return;
    }
    hashes_.push_back(std::move(*hash));
  }
}

Result<std::vector<std::string>> FileHasher::finish() {
  thread_.join();
  NIBBLE_DO(status_);
  return hashes_;
}

}  // namespace nibble
