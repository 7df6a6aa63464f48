// What there is to run on.
#include "eval/machine.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "base/cpu.h"
#include "base/result.h"
#include "nibble/advise.h"

namespace nibble {
namespace {

namespace fs = std::filesystem;

/// The number that a small file of the system begins with.
std::optional<std::uint64_t> number_in(const std::string& path) {
  std::ifstream in(path);
  std::uint64_t value = 0;
  return in >> value ? std::optional(value) : std::nullopt;
}

/// "MemAvailable:    123 kB"
std::uint64_t available_memory() {
  std::ifstream in("/proc/meminfo");
  for (std::string name; in >> name; in.ignore(64, '\n')) {
    std::uint64_t kilobytes = 0;
    if (name == "MemAvailable:" && in >> kilobytes) return kilobytes * 1024;
  }
  return physical_memory();
}

/// Cards of makers whose processors count, and of others by their numbers.
std::vector<std::string> find_gpus() {
  std::vector<std::string> out;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator("/proc/driver/nvidia/gpus", ignored)) {
    std::ifstream in(entry.path() / "information");
    for (std::string line; std::getline(in, line);)
      if (line.starts_with("Model:")) {
        const std::size_t name = line.find_first_not_of(" \t", 6);
        if (name != line.npos) out.push_back(line.substr(name));
      }
  }
  constexpr std::pair<const char*, const char*> kMakers[] = {{"0x1002", "AMD"},
                                                             {"0x8086", "Intel"}};
  for (const auto& entry : fs::directory_iterator("/sys/class/drm", ignored)) {
    const std::string card = entry.path().filename().string();
    if (!card.starts_with("card") || card.find('-') != card.npos) continue;
    std::string vendor;
    std::ifstream(entry.path() / "device/vendor") >> vendor;
    for (const auto& [id, maker] : kMakers)
      if (vendor == id) out.push_back(fmt::format("{} graphics ({})", maker, card));
  }
  std::ranges::sort(out);
  return out;
}

}  // namespace

Result<Machine> probe_machine(int threads) {
  if (active_isa().empty())
    return fail(
        ErrorCode::invalid,
        "NIBBLE_ISA names no instruction set that runs here: unset it, or set it to scalar");
  ThreadPool pool(threads);
  Machine machine;
  machine.isa = active_isa(), machine.threads = pool.size();
  machine.cores = ThreadPool(0).size();
  machine.memory_bytes = physical_memory();
  machine.free_bytes = available_memory();
  if (const auto limit = number_in("/sys/fs/cgroup/memory.max")) {
    const std::uint64_t used = number_in("/sys/fs/cgroup/memory.current").value_or(0);
    machine.memory_bytes = std::min(machine.memory_bytes, *limit);
    machine.free_bytes = std::min(machine.free_bytes, *limit - std::min(*limit, used));
  }
  machine.gpus = find_gpus();
  machine.speed = measure_machine(pool);
  return machine;
}

}  // namespace nibble
