#include "eval/energy.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>

#include "base/file.h"

namespace nibble {
namespace {

namespace fs = std::filesystem;

constexpr double kJoule = 1e6;  // in the units of the files

/// The first line: files of the system cannot be mapped, and have no size.
Result<std::string> read_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  if (!std::getline(file, line)) return system_error(path, "cannot be read");
  return line;
}

Result<std::uint64_t> read_number(const std::string& path) {
  NIBBLE_TRY(const std::string text, read_line(path));
  std::uint64_t value = 0;
  if (std::from_chars(text.data(), text.data() + text.size(), value).ec != std::errc())
    return fail(ErrorCode::corrupt, "{}: not a number", path);
  return value;
}

/// Zones lie in folders "intel-rapl:0" (a processor, whoever made it), their parts in
/// "intel-rapl:0:1". Of the parts only memory is not counted in the whole.
bool counts(const std::string& folder, const std::string& name) {
  constexpr std::string_view kPrefix = "intel-rapl:";
  if (!folder.starts_with(kPrefix)) return false;
  const bool part = folder.find(':', kPrefix.size()) != std::string::npos;
  return part ? name == "dram" : name.starts_with("package");
}

}  // namespace

Result<EnergyCounter> EnergyCounter::open(const std::string& powercap) {
  std::error_code none;
  std::vector<std::string> folders;
  for (const auto& entry : fs::directory_iterator(powercap, none))
    folders.push_back(entry.path().filename().string());
  std::sort(folders.begin(), folders.end());
  EnergyCounter out;
  for (const std::string& folder : folders) {
    const std::string zone = powercap + "/" + folder;
    const auto name = read_line(zone + "/name");
    if (!name || !counts(folder, *name)) continue;
    NIBBLE_TRY(const std::uint64_t now, read_number(zone + "/energy_uj"));
    NIBBLE_TRY(const std::uint64_t end, read_number(zone + "/max_energy_range_uj"));
    out.zones_.push_back({zone + "/energy_uj", now, end});
    out.names_.push_back(*name);
  }
  if (out.zones_.empty())
    return fail(ErrorCode::io, "{}: this machine shows no counter of energy", powercap);
  return out;
}

Result<double> EnergyCounter::lap() {
  double sum = 0;
  for (Zone& zone : zones_) {
    NIBBLE_TRY(const std::uint64_t now, read_number(zone.path));
    sum += double(now >= zone.last ? now - zone.last : now + (zone.end - zone.last)) / kJoule;
    zone.last = now;
  }
  return sum;
}

}  // namespace nibble
