// Quantities as people read them.
#pragma once

#include <cstdint>
#include <string>

namespace nibble {

/// "1.50 GB", "270.9 MB" (decimal units), "7 B".
std::string human_bytes(std::uint64_t bytes);
/// "1h02m", "3m05s", "12s", "0.4s".
std::string human_seconds(double seconds);

}  // namespace nibble
