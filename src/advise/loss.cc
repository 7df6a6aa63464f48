#include "advise/loss.h"

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "base/file.h"
#include "base/json.h"
#include "plan/levels.h"

namespace nibble {
namespace {

constexpr std::uint64_t kLargestReport = 64u << 20;

/// A level of a model, measured.
struct Measurement {
  std::string_view model;
  std::uint64_t parameters;
  bool fits_blocks;  // rows are multiples of 256
  std::string_view level;
  double bits_per_weight;  // true ones
  std::string_view text;
  double kld, kld_se, same_top;
};

#include "advise/loss_table.inc"

std::string upper(std::string text) {
  for (char& c : text)
    if (c >= 'a' && c <= 'z') c = char(c - 'a' + 'A');
  return text;
}

/// "models/SmolLM2-Q4_K_M.gguf" -> "Q4_K_M": the longest that stands by itself.
std::string level_in(const std::string& path) {
  const std::string name = upper(std::filesystem::path(path).filename().string());
  const auto part_of_word = [&](std::size_t at) {
    return at < name.size() && (std::isalnum(std::uint8_t(name[at])) || name[at] == '_');
  };
  std::string best;
  for (const Level& level : level_table())
    for (std::size_t at = name.find(level.name); at != name.npos;
         at = name.find(level.name, at + 1)) {
      const bool whole =
          (at == 0 || !part_of_word(at - 1)) && !part_of_word(at + level.name.size());
      if (whole && level.name.size() > best.size()) best = level.name;
    }
  return best;
}

Status add_loss(const Json& entry, const std::string& origin,
                std::map<std::string, LevelLoss>& losses) {
  if (!entry.is_object() || !entry.contains("kld_mean")) return {};  // was not compared
  NIBBLE_TRY(const std::string model, json_string(entry, "model"));
  const std::string level = level_in(model);
  if (level.empty())
    return fail(ErrorCode::invalid,
                "field 'model' is '{}': the file's name must say its level, as in name-Q4_K_M.gguf",
                model);
  LevelLoss loss{.own = true, .origin = origin};
  NIBBLE_TRY(loss.kld, json_number(entry, "kld_mean"));
  NIBBLE_TRY(loss.kld_se, json_number_or(entry, "kld_mean_se", 0));
  NIBBLE_TRY(loss.same_top, json_number(entry, "same_top"));
  if (!(std::isfinite(loss.kld) && loss.kld >= 0 && loss.same_top >= 0 && loss.same_top <= 1))
    return fail(ErrorCode::corrupt, "field 'kld_mean' or 'same_top' of '{}' is out of range",
                model);
  losses[level] = std::move(loss);
  return {};
}

Status read_report(const std::string& path, std::map<std::string, LevelLoss>& losses) {
  NIBBLE_TRY(const std::string text, read_text(path, kLargestReport));
  NIBBLE_TRY_IN(path, const Json report, parse_json(text));
  const std::string origin =
      fmt::format("this model ({})", std::filesystem::path(path).filename().string());
  const std::size_t before = losses.size();
  const auto models = report.find("models");
  if (models != report.end() && models->is_array()) {
    for (const Json& entry : *models) NIBBLE_DO_IN(path, add_loss(entry, origin, losses));
  } else {
    NIBBLE_DO_IN(path, add_loss(report, origin, losses));
  }
  if (losses.size() == before)
    return fail(ErrorCode::invalid,
                "{}: holds no KL divergence; it is to be what nibble eval --ref MODEL --json or "
                "nibble compare --json wrote",
                path);
  return {};
}

}  // namespace

Result<std::map<std::string, LevelLoss>> read_losses(const std::vector<std::string>& reports) {
  std::map<std::string, LevelLoss> losses;
  for (const std::string& path : reports) NIBBLE_DO(read_report(path, losses));
  return losses;
}

std::string_view text_for(Purpose purpose) {
  const auto* found = std::ranges::find(kMeasurements, name_of(purpose), &Measurement::text);
  return found == std::end(kMeasurements) ? "prose" : found->text;
}

std::optional<LevelLoss> table_loss(std::string_view level, Purpose purpose,
                                    std::uint64_t parameters, bool fits_blocks) {
  const Measurement* best = nullptr;
  const std::string_view text = text_for(purpose);
  const auto distance = [&](const Measurement& m) {
    return std::pair(m.fits_blocks != fits_blocks,
                     std::abs(std::log(double(m.parameters) / double(parameters))));
  };
  for (const Measurement& m : kMeasurements)
    if (m.level == level && m.text == text && (!best || distance(m) < distance(*best))) best = &m;
  if (!best) return std::nullopt;
  return LevelLoss{.kld = best->kld,
                   .kld_se = best->kld_se,
                   .same_top = best->same_top,
                   .origin = fmt::format("{} ({:.0f}M parameters), {}", best->model,
                                         double(best->parameters) * 1e-6, text)};
}

std::vector<std::uint64_t> table_sizes() {
  std::vector<std::uint64_t> out;
  for (const Measurement& m : kMeasurements)
    if (std::ranges::count(out, m.parameters) == 0) out.push_back(m.parameters);
  return out;
}

}  // namespace nibble
