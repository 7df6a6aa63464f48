// Energy that a machine has used, from the counters that Linux shows (RAPL).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"

namespace nibble {

class EnergyCounter {
 public:
  /// The counters of whole processors and of memory under `powercap` that can be read. Error: there
  /// are none, or this user may not read them.
  static Result<EnergyCounter> open(const std::string& powercap);

  const std::vector<std::string>& domains() const { return names_; }
  /// Joules used since the last call, or since open(). Error: a counter that is gone.
  Result<double> lap();

 private:
  struct Zone {
    std::string path;         // of the file that counts
    std::uint64_t last, end;  // microjoules; it goes from `end` to 0
  };
  std::vector<Zone> zones_;
  std::vector<std::string> names_;  // of the zones
};

}  // namespace nibble
