#include "container/hub_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <filesystem>
#include <thread>
#include <vector>

#include "base/file.h"
#include "base/hash.h"

namespace nibble {
namespace {

constexpr int kAttempts = 4;
constexpr auto kFirstPause = std::chrono::milliseconds(500);  // doubles every time

/// What the hub is known to call the content.
struct Expected {
  std::string sha256, blob;
};

bool is_hex(const std::string& text, std::size_t digits) {
  return text.size() == digits && text.find_first_not_of("0123456789abcdef") == text.npos;
}

Expected expected_of(const RemoteFile& file, const std::string& etag) {
  if (is_hex(file.sha256, 64)) return {file.sha256, ""};
  if (is_hex(etag, 64)) return {etag, ""};
  if (is_hex(file.blob, 40)) return {"", file.blob};
  return {"", is_hex(etag, 40) ? etag : ""};
}

/// `<target>.part`, locked, so that two downloads of the same file don't mix.
class PartFile {
 public:
  explicit PartFile(std::string target) : path_(std::move(target) + ".part") {}
  ~PartFile() {
    if (fd_ >= 0) ::close(fd_);
  }
  PartFile(const PartFile&) = delete;
  PartFile& operator=(const PartFile&) = delete;

  /// Opens or creates it; content beyond `limit` can't belong to the file.
  Status open(std::uint64_t limit) {
    fd_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (fd_ < 0) return system_error(path_, "cannot create");
    if (::flock(fd_, LOCK_EX | LOCK_NB) != 0)
      return fail(ErrorCode::io, "{}: another nibble is downloading this file", path_);
    const off_t end = ::lseek(fd_, 0, SEEK_END);
    if (end < 0) return system_error(path_, "cannot seek");
    size_ = std::uint64_t(end);
    return size_ > limit ? cut() : Status();
  }

  std::uint64_t size() const { return size_; }

  /// Stores a piece; a piece at 0 starts the file anew.
  Status store(std::uint64_t offset, std::span<const std::byte> bytes) {
    if (offset == 0 && size_ > 0) NIBBLE_DO(cut());
    if (offset != size_)
      return fail(ErrorCode::corrupt, "{}: the server sent bytes from {}, expected {}", path_,
                  offset, size_);
    while (!bytes.empty()) {
      const ssize_t n = ::pwrite(fd_, bytes.data(), bytes.size(), off_t(size_));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return system_error(path_, "cannot write");
      size_ += std::uint64_t(n);
      bytes = bytes.subspan(std::size_t(n));
    }
    return {};
  }

  Status feed(Digest& digest) const {
    std::vector<std::byte> buffer(1 << 20);
    for (std::uint64_t at = 0; at < size_;) {
      const ssize_t n = ::pread(fd_, buffer.data(), buffer.size(), off_t(at));
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) return system_error(path_, "cannot read");
      digest.update(std::span(buffer).first(std::size_t(n)));
      at += std::uint64_t(n);
    }
    return {};
  }

  Status finish(const std::string& target) {
    if (::fsync(fd_) != 0 || ::rename(path_.c_str(), target.c_str()) != 0)
      return system_error(path_, "cannot finish");
    return {};
  }

  void discard() { ::unlink(path_.c_str()); }

 private:
  Status cut() {
    if (::ftruncate(fd_, 0) != 0) return system_error(path_, "cannot cut");
    size_ = 0;
    return {};
  }

  std::string path_;
  int fd_ = -1;
  std::uint64_t size_ = 0;
};

Status check_content(const PartFile& part, const RemoteFile& file, const Expected& expected,
                     Progress& progress) {
  std::string found, wanted;
  if (!expected.sha256.empty()) {
    Sha256 digest;
    NIBBLE_DO(part.feed(digest));
    found = digest.hex();
    wanted = expected.sha256;
  } else if (!expected.blob.empty()) {  // git hashes "blob <size>\0" and the content
    Sha1 digest;
    const std::string head = fmt::format("blob {}", part.size()) + '\0';
    digest.update(std::as_bytes(std::span(head)));
    NIBBLE_DO(part.feed(digest));
    found = digest.hex();
    wanted = expected.blob;
  } else {
    progress.note(file.path + ": the hub gives no hash; only the size was checked");
  }
  if (found == wanted) return {};
  return fail(ErrorCode::corrupt,
              "{}: the content has hash {}, the hub says {}; it was removed, try again", file.path,
              found, wanted);
}

bool momentary(const HttpReply& reply) {
  return !reply.failure.empty() || reply.status >= 500 || reply.status == 429 ||
         reply.status == 408;
}

Status explain(const HttpReply& reply, const std::string& url) {
  if (!reply.failure.empty())
    return fail(ErrorCode::io,
                "{}: {}; is the network up? HF_ENDPOINT can name another hub, such as a mirror",
                url, reply.failure);
  switch (reply.status) {
    case 200:
    case 206:
      return {};
    case 401:
    case 403:
      return fail(ErrorCode::io,
                  "{}: access denied (status {}); the name may be wrong, or the model needs a "
                  "token: accept its terms on the hub and set HF_TOKEN",
                  url, reply.status);
    case 404:
      return fail(ErrorCode::invalid, "{}: no such model, revision or file (status 404)", url);
    default:
      return fail(ErrorCode::io, "{}: the server answered with status {}; try again later", url,
                  reply.status);
  }
}

}  // namespace

Result<HttpReply> http_get_patiently(HttpRequest request, const HttpSink& sink,
                                     const std::function<std::uint64_t()>& from,
                                     const Progress& progress) {
  for (int attempt = 0;; ++attempt) {
    request.from = from();
    NIBBLE_TRY(const HttpReply reply, http_get(request, sink, progress));
    if (from() > request.from) attempt = 0;  // it got on: not the same trouble
    if (!momentary(reply) || attempt + 1 >= kAttempts) {
      NIBBLE_DO(explain(reply, request.url));
      return reply;
    }
    std::this_thread::sleep_for(kFirstPause * (1 << attempt));
  }
}

Status download_file(const std::string& url, const std::string& token, const RemoteFile& file,
                     const std::string& target, std::uint64_t done, Progress& progress) {
  std::error_code error;
  if (std::filesystem::file_size(target, error) == file.size && !error) return {};
  std::filesystem::create_directories(std::filesystem::path(target).parent_path(), error);
  if (error) return fail(ErrorCode::io, "{}: cannot create: {}", target, error.message());
  PartFile part(target);
  NIBBLE_DO(part.open(file.size));
  const auto sink = [&](std::uint64_t offset, std::span<const std::byte> bytes) -> Status {
    NIBBLE_DO(part.store(offset, bytes));
    progress.update(done + part.size());
    return {};
  };
  HttpReply reply;
  for (int i = 0; i < kAttempts && part.size() < file.size; ++i) {
    NIBBLE_TRY(reply, http_get_patiently(
                          {.url = url, .token = token, .limit = file.size}, sink,
                          [&] { return part.size(); }, progress));
  }
  if (part.size() != file.size)
    return fail(ErrorCode::corrupt, "{}: {} bytes came, the hub says {}", file.path, part.size(),
                file.size);
  if (auto good = check_content(part, file, expected_of(file, reply.etag), progress); !good) {
    part.discard();
    return good;
  }
  return part.finish(target);
}

}  // namespace nibble
