// Files: mapped for reading, written under a temporary name and renamed when complete.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/result.h"

namespace nibble {

/// A whole file mapped read-only. Movable; unmapped on destruction. Safe to read from many threads.
class MappedFile {
 public:
  MappedFile() = default;
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  /// Error messages name `path`.
  static Result<MappedFile> open(const std::string& path);

  const std::string& path() const { return path_; }
  std::span<const std::byte> bytes() const { return {data_, size_}; }
  std::uint64_t size() const { return size_; }
  /// Gives the pages of this range back to the system; they are read again when touched.
  void release(std::uint64_t offset, std::uint64_t length) const;

 private:
  std::string path_;
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

/// A file that appears under its final name only by commit(). Without it the temporary
/// `<path>.part` is removed, unless leave() was called.
class OutputFile {
 public:
  OutputFile() = default;
  OutputFile(OutputFile&& other) noexcept;
  OutputFile& operator=(OutputFile&& other) noexcept;
  ~OutputFile();

  /// An error while another process (or another OutputFile) writes the same path.
  /// `resume`: what leave() or a crash left under the temporary name is kept.
  static Result<OutputFile> create(const std::string& path, bool resume = false);
  /// Sets aside the space for a file of `bytes`, so that a full disk is found before the work.
  /// Where the file system cannot, nothing happens.
  Status reserve(std::uint64_t bytes);
  Status write(std::span<const std::byte> bytes);  // appends
  Status write_at(std::uint64_t offset, std::span<const std::byte> bytes);
  Status read_at(std::uint64_t offset, std::span<std::byte> bytes) const;
  std::uint64_t size() const { return size_; }       // bytes appended so far
  const std::string& path() const { return path_; }  // the final name
  std::string part_path() const { return path_ + ".part"; }
  Status commit();  // flush to disk, rename
  void leave();     // keeps the temporary file for a later create(path, true)

 private:
  std::string path_;
  int fd_ = -1;
  std::uint64_t size_ = 0;
};

/// "PATH: WHAT: what errno says", and what a user can do about it.
tl::unexpected<Error> system_error(const std::string& path, const char* what);

/// Whether the result of long work on `source` can be written to `path`: not where a directory or
/// the source itself is, and not where no file can be created.
Status check_place(const std::string& path, const std::string& source);

/// Whole small files. `limit` guards against reading something huge by mistake.
Result<std::string> read_text(const std::string& path, std::uint64_t limit = 1u << 30);
Status write_text(const std::string& path, const std::string& text);  // atomic, through OutputFile

}  // namespace nibble
