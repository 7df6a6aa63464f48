#include "export/place.h"

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>

#include "base/file.h"

namespace nibble {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kPiece = 16u << 20;

Status check_free(const std::string& path, bool force) {
  std::error_code ignored;
  if (force || !fs::exists(fs::symlink_status(path, ignored))) return {};
  return fail(ErrorCode::invalid, "{}: exists already; --force replaces it", path);
}

Status copy_file(const std::string& from, const std::string& to) {
  NIBBLE_TRY(const MappedFile source, MappedFile::open(from));
  NIBBLE_TRY(OutputFile target, OutputFile::create(to));
  NIBBLE_DO(target.reserve(source.size()));
  for (std::uint64_t at = 0; at < source.size(); at += kPiece) {
    const std::uint64_t count = std::min<std::uint64_t>(kPiece, source.size() - at);
    NIBBLE_DO(target.write(source.bytes().subspan(at, count)));
    source.release(at, count);
  }
  return target.commit();
}

}  // namespace

Status make_folder_of(const std::string& path) {
  const fs::path folder = fs::path(path).parent_path();
  std::error_code error;
  if (!folder.empty()) fs::create_directories(folder, error);
  if (error)
    return fail(ErrorCode::io, "{}: cannot be created: {}", folder.string(), error.message());
  return {};
}

Result<ExportedFile> place_file(const std::string& from, const std::string& to, bool force) {
  NIBBLE_DO(check_free(to, force));
  NIBBLE_DO(make_folder_of(to));
  std::error_code error;
  const std::uint64_t bytes = fs::file_size(from, error);
  if (error) return fail(ErrorCode::io, "{}: {}", from, error.message());
  ExportedFile out{.path = to, .bytes = bytes, .how = ExportedFile::How::there_already};
  if (fs::equivalent(from, to, error)) return out;
  const std::string real = fs::canonical(from, error).string();  // a link to a link is no file
  const std::string part = to + ".part";
  ::unlink(part.c_str());
  if (::link(real.c_str(), part.c_str()) == 0) {
    if (::rename(part.c_str(), to.c_str()) != 0) {
      auto failed = system_error(to, "cannot get its name");
      ::unlink(part.c_str());
      return failed;
    }
    out.how = ExportedFile::How::linked;
    return out;
  }
  NIBBLE_DO(copy_file(from, to));
  out.how = ExportedFile::How::copied;
  return out;
}

Result<ExportedFile> place_text(const std::string& text, const std::string& to, bool force) {
  NIBBLE_DO(check_free(to, force));
  NIBBLE_DO(make_folder_of(to));
  NIBBLE_DO(write_text(to, text));
  return ExportedFile{.path = to, .bytes = text.size()};
}

}  // namespace nibble
