// An importance matrix in either form: what is accepted has only finite, non-negative values.
#include "container/imatrix.h"

#include <cmath>

#include "base/result.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto imatrix = nibble::parse_imatrix({reinterpret_cast<const std::byte*>(data), size});
  if (!imatrix) return 0;
  for (const auto& [name, entry] : imatrix->entries) {
    NIBBLE_CHECK(!entry.count.empty() && entry.mean_square.size() % entry.count.size() == 0);
    for (const float value : entry.mean_square) NIBBLE_CHECK(std::isfinite(value) && value >= 0);
  }
  return 0;
}
