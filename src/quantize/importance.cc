#include "quantize/importance.h"

#include <filesystem>

#include "base/file.h"
#include "base/hash.h"
#include "calib/calibrate.h"

namespace nibble {
namespace {

Result<std::string> file_sha256(const std::string& path) {
  NIBBLE_TRY(const MappedFile file, MappedFile::open(path));
  Sha256 sha;
  sha.update(file.bytes());
  return sha.hex();
}

}  // namespace

bool wants_importance(const QuantizeOptions& options, bool rounding_needs_it) {
  return rounding_needs_it || !options.calibration.empty();
}

Result<Importance> find_importance(const QuantizeOptions& options, const Model* rewritten,
                                   Progress& progress) {
  const std::string& path = options.calibration;
  if (!path.empty() && is_imatrix(path)) {
    NIBBLE_TRY(Imatrix imatrix, read_imatrix(path));
    NIBBLE_TRY(std::string sha256, file_sha256(path));
    return Importance{std::move(imatrix), std::filesystem::path(path).filename().string(),
                      std::move(sha256)};
  }
  const auto model = Model::open(options.source);
  if (!model)
    return fail(model.error().code(),
                "{}; so it can't be run on {}: give --calib an importance matrix",
                model.error().message(), path.empty() ? "text of its own" : path);
  CalibrateOptions calibrate;
  calibrate.model = options.source;
  calibrate.text = path;
  calibrate.chunks = options.calibration_chunks;
  calibrate.threads = options.threads;
  NIBBLE_TRY(Calibration found,
             run_calibration(rewritten ? *rewritten : *model, calibrate, progress));
  return Importance{std::move(found.imatrix),
                    std::filesystem::path(found.dataset).filename().string(),
                    std::move(found.dataset_sha256)};
}

}  // namespace nibble
