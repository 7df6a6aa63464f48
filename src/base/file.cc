#include "base/file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

namespace nibble {
namespace {

/// What a user can do about an error of the system; empty where nothing general can be said.
const char* next_step(int error) {
  switch (error) {
    case ENOENT:
    case ENOTDIR:
      return "; is the path right?";
    case EACCES:
    case EPERM:
    case EROFS:
      return "; change its permissions or take another place";
    case ENOSPC:
    case EDQUOT:
      return "; free some space or take another place";
    case EMFILE:
    case ENFILE:
      return "; raise the limit of open files (ulimit -n)";
    default:
      return "";
  }
}

Status write_all(int fd, std::span<const std::byte> bytes, const std::string& path,
                 std::int64_t offset) {
  while (!bytes.empty()) {
    const std::size_t chunk = std::min<std::size_t>(bytes.size(), 1u << 30);
    const ssize_t n =
        offset < 0 ? ::write(fd, bytes.data(), chunk) : ::pwrite(fd, bytes.data(), chunk, offset);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return system_error(path, "cannot write");
    if (n == 0) return fail(ErrorCode::io, "{}: cannot write: nothing was accepted", path);
    if (offset >= 0) offset += n;
    bytes = bytes.subspan(std::size_t(n));
  }
  return {};
}

}  // namespace

tl::unexpected<Error> system_error(const std::string& path, const char* what) {
  return fail(ErrorCode::io, "{}: {}: {}{}", path, what, std::strerror(errno), next_step(errno));
}

MappedFile::MappedFile(MappedFile&& other) noexcept { *this = std::move(other); }

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_) ::munmap(const_cast<std::byte*>(data_), size_);
}

Result<MappedFile> MappedFile::open(const std::string& path) {
  // Opening a pipe must not wait for its writer.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return system_error(path, "cannot open");
  struct stat info;
  if (::fstat(fd, &info) != 0) {
    const auto error = system_error(path, "cannot stat");
    ::close(fd);
    return error;
  }
  if (!S_ISREG(info.st_mode)) {
    ::close(fd);
    return fail(ErrorCode::invalid, "{}: not a regular file", path);
  }
  MappedFile file;
  file.path_ = path;
  file.size_ = std::size_t(info.st_size);
  if (file.size_ > 0) {
    void* data = ::mmap(nullptr, file.size_, PROT_READ, MAP_SHARED, fd, 0);
    if (data == MAP_FAILED) {
      const auto error = system_error(path, "cannot map");
      ::close(fd);
      return error;
    }
    file.data_ = static_cast<const std::byte*>(data);
  }
  ::close(fd);
  return file;
}

void MappedFile::release(std::uint64_t offset, std::uint64_t length) const {
  const std::uint64_t page = std::uint64_t(::sysconf(_SC_PAGESIZE));
  const std::uint64_t begin = (offset + page - 1) / page * page;
  const std::uint64_t end = std::min<std::uint64_t>(offset + length, size_) / page * page;
  if (begin < end) ::madvise(const_cast<std::byte*>(data_) + begin, end - begin, MADV_DONTNEED);
}

OutputFile::OutputFile(OutputFile&& other) noexcept { *this = std::move(other); }

OutputFile& OutputFile::operator=(OutputFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(fd_, other.fd_);
  std::swap(size_, other.size_);
  return *this;
}

OutputFile::~OutputFile() {
  if (fd_ < 0) return;
  ::close(fd_);
  ::unlink(part_path().c_str());
}

Result<OutputFile> OutputFile::create(const std::string& path, bool resume) {
  const std::string part = path + ".part";
  struct stat old;
  if (::stat(path.c_str(), &old) == 0 && !S_ISREG(old.st_mode))
    return fail(ErrorCode::invalid, "{}: is there and not a regular file; give another name", path);
  const int fd = ::open(part.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (fd < 0) return system_error(path, "cannot create");
  // Locked, and still the file of that name: nobody else writes or renames it now.
  struct stat mine, there;
  if (::flock(fd, LOCK_EX | LOCK_NB) != 0 || ::fstat(fd, &mine) != 0 ||
      ::stat(part.c_str(), &there) != 0 || mine.st_ino != there.st_ino) {
    ::close(fd);
    return fail(ErrorCode::io, "{}: another program is writing it; wait for that to end", path);
  }
  OutputFile file;
  file.path_ = path;
  file.fd_ = fd;
  if (!resume && ::ftruncate(fd, 0) != 0) return system_error(path, "cannot create");
  return file;
}

Status OutputFile::reserve(std::uint64_t bytes) {
  if (bytes == 0 || ::fallocate(fd_, 0, 0, off_t(bytes)) == 0) return {};
  if (errno != ENOSPC && errno != EDQUOT && errno != EFBIG) return {};
  return fail(ErrorCode::io, "{}: cannot set aside {} bytes: {}", path_, bytes,
              std::strerror(errno));
}

Status OutputFile::write(std::span<const std::byte> bytes) {
  NIBBLE_DO(write_all(fd_, bytes, path_, -1));
  size_ += bytes.size();
  return {};
}

Status OutputFile::write_at(std::uint64_t offset, std::span<const std::byte> bytes) {
  return write_all(fd_, bytes, path_, std::int64_t(offset));
}

Status OutputFile::read_at(std::uint64_t offset, std::span<std::byte> bytes) const {
  while (!bytes.empty()) {
    const ssize_t n = ::pread(fd_, bytes.data(), bytes.size(), off_t(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return system_error(path_, "cannot read");
    if (n == 0) return fail(ErrorCode::corrupt, "{}: ends at byte {}", part_path(), offset);
    offset += std::uint64_t(n);
    bytes = bytes.subspan(std::size_t(n));
  }
  return {};
}

void OutputFile::leave() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

Status OutputFile::commit() {
  const bool renamed = ::fsync(fd_) == 0 && std::rename(part_path().c_str(), path_.c_str()) == 0;
  const auto error = system_error(path_, "cannot finish writing");
  if (!renamed) ::unlink(part_path().c_str());
  ::close(fd_);  // only now may others use the temporary name
  fd_ = -1;
  if (!renamed) return error;
  return {};
}

Status check_place(const std::string& path, const std::string& source) {
  namespace fs = std::filesystem;
  std::error_code error;
  if (fs::is_directory(path, error))
    return fail(ErrorCode::invalid, "{}: is a directory; name a file in it", path);
  if (fs::equivalent(path, source, error))
    return fail(ErrorCode::invalid, "{}: is the source itself; give another name", path);
  const fs::path parent = fs::path(path).parent_path();
  const std::string folder = parent.empty() ? "." : parent.string();
  if (::access(folder.c_str(), W_OK | X_OK) != 0) return system_error(path, "cannot create");
  return {};
}

Result<std::string> read_text(const std::string& path, std::uint64_t limit) {
  NIBBLE_TRY(const MappedFile file, MappedFile::open(path));
  if (file.size() > limit)
    return fail(ErrorCode::invalid, "{}: {} bytes, more than the {} expected here", path,
                file.size(), limit);
  return std::string(reinterpret_cast<const char*>(file.bytes().data()), file.size());
}

Status write_text(const std::string& path, const std::string& text) {
  NIBBLE_TRY(OutputFile file, OutputFile::create(path));
  NIBBLE_DO(file.write(std::as_bytes(std::span(text))));
  return file.commit();
}

}  // namespace nibble
