// LM Studio reads STORE/PUBLISHER/MODEL/FILE.gguf; the parts of a split lie side by side.
#include <filesystem>

#include "container/source.h"
#include "export/place.h"

namespace nibble {
namespace {

namespace fs = std::filesystem;

Status check_folder(const std::string& name, const char* what) {
  const bool good = !name.empty() && name.front() != '.' && name.find('/') == name.npos &&
                    name.find('\\') == name.npos;
  if (good) return {};
  return fail(ErrorCode::invalid, "{} '{}': expected the name of a folder", what, name);
}

}  // namespace

Result<ExportReport> export_lm_studio(const LmStudioOptions& options, Progress&) {
  NIBBLE_TRY(const auto source, open_source(options.model));
  if (source->container() != "gguf")
    return fail(ErrorCode::invalid, "{}: expected a GGUF file", options.model);
  const std::string name =
      options.name.empty() ? fs::path(options.model).stem().string() : options.name;
  NIBBLE_DO(check_folder(options.publisher, "publisher"));
  NIBBLE_DO(check_folder(name, "model"));
  ExportReport report;
  for (const std::string& file : source->files()) {
    const fs::path to =
        fs::path(options.store) / options.publisher / name / fs::path(file).filename();
    NIBBLE_TRY(ExportedFile placed, place_file(file, to.string(), options.force));
    report.files.push_back(std::move(placed));
  }
  return report;
}

}  // namespace nibble
