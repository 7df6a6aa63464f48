#include "quantize/destination.h"

#include <unistd.h>

#include <filesystem>

#include "base/file.h"

namespace nibble {
namespace {

namespace fs = std::filesystem;

/// --force replaces checkpoints, not whatever a folder holds.
Status check_directory(const std::string& path, const QuantizeOptions& options) {
  std::error_code error;
  const fs::path source = fs::weakly_canonical(options.source, error);
  const fs::path output = fs::weakly_canonical(path, error);
  if (std::mismatch(output.begin(), output.end(), source.begin(), source.end()).first ==
      output.end())
    return fail(ErrorCode::invalid, "{}: holds the source; give another name", path);
  const fs::path parent = fs::path(path).parent_path();
  if (::access(parent.empty() ? "." : parent.c_str(), W_OK | X_OK) != 0)
    return system_error(path, "cannot create");
  if (!fs::exists(path, error)) return {};
  if (!fs::is_directory(path, error))
    return fail(ErrorCode::invalid, "{}: is a file; this target is a directory", path);
  if (fs::is_empty(path, error)) return {};
  if (!options.force)
    return fail(ErrorCode::invalid, "{}: is there already; --force replaces it", path);
  if (fs::exists(fs::path(path) / "config.json", error)) return {};
  return fail(ErrorCode::invalid,
              "{}: holds no config.json, so it is no checkpoint and is not replaced", path);
}

}  // namespace

std::unique_ptr<Destination> Destination::of(const Job& job, const QuantizeOptions& options) {
  return (job.plan.target.packer ? hf_destination : gguf_destination)(job, options);
}

Status check_output(const Target& target, const QuantizeOptions& options) {
  if (options.output.empty())
    return fail(ErrorCode::invalid, "no output: say -o {}",
                target.packer ? "DIRECTORY" : "FILE.gguf");
  if (target.packer) return check_directory(options.output, options);
  NIBBLE_DO(check_place(options.output, options.source));
  if (options.force) return {};
  auto status = check_not_there(options.output);
  if (!status)
    return fail(status.error().code(), "{}; --force replaces it", status.error().message());
  return {};
}

}  // namespace nibble
