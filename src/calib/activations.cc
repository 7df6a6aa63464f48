#include "calib/activations.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "base/half.h"

namespace nibble {
namespace {

tl::unexpected<Error> no_room(const std::string& folder, std::size_t bytes, int error) {
  return fail(ErrorCode::io, "{}: no room for {} bytes of activations: {}",
              folder.empty() ? "memory" : folder, bytes, std::strerror(error));
}

/// A file that goes when it is closed, however the program ends; -1 and errno on failure.
int nameless_file(const std::string& folder, std::size_t bytes) {
  std::string name = folder + "/.nibble-XXXXXX";
  const int file = ::mkostemp(name.data(), O_CLOEXEC);
  if (file < 0) return file;
  ::unlink(name.c_str());
  const int error = ::posix_fallocate(file, 0, off_t(bytes));
  if (error == 0) return file;
  ::close(file);
  errno = error;
  return -1;
}

}  // namespace

Activations::Activations(Activations&& other) noexcept { *this = std::move(other); }

Activations& Activations::operator=(Activations&& other) noexcept {
  std::swap(tokens_, other.tokens_);
  std::swap(width_, other.width_);
  std::swap(values_, other.values_);
  std::swap(in_file_, other.in_file_);
  return *this;
}

Activations::~Activations() {
  if (values_) ::munmap(values_, bytes());
}

Result<Activations> Activations::create(std::uint64_t tokens, std::size_t width,
                                        const std::string& folder) {
  Activations out;
  out.tokens_ = tokens, out.width_ = width, out.in_file_ = !folder.empty();
  const int file = out.in_file_ ? nameless_file(folder, out.bytes()) : -1;
  if (out.in_file_ && file < 0) return no_room(folder, out.bytes(), errno);
  void* mapped = ::mmap(nullptr, out.bytes(), PROT_READ | PROT_WRITE,
                        out.in_file_ ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS, file, 0);
  const int error = errno;
  if (file >= 0) ::close(file);
  if (mapped == MAP_FAILED) return no_room(folder, out.bytes(), error);
  out.values_ = static_cast<std::uint16_t*>(mapped);
  return out;
}

/// Pages of a file need not stay in memory.
void Activations::release(std::uint64_t token, std::size_t values) const {
  if (!in_file_) return;
  const std::uint64_t page = std::uint64_t(::sysconf(_SC_PAGESIZE));
  const std::uint64_t first = token * width_ * 2, begin = first / page * page;
  ::madvise(reinterpret_cast<char*>(values_) + begin, first + values * 2 - begin, MADV_DONTNEED);
}

void Activations::read(std::uint64_t token, std::span<float> values) const {
  const std::uint16_t* from = values_ + token * width_;
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = bf16_to_f32(from[i]);
  release(token, values.size());
}

void Activations::write(std::uint64_t token, std::span<const float> values) {
  std::uint16_t* to = values_ + token * width_;
  for (std::size_t i = 0; i < values.size(); ++i) to[i] = f32_to_bf16(values[i]);
  release(token, values.size());
}

}  // namespace nibble
