// Any bytes as a block of the format that the first byte chooses: unpacking gives codes that the
// format can name, and packing them again gives a block with the same values.
#include <bit>
#include <cmath>
#include <cstdint>
#include <vector>

#include "base/result.h"
#include "format/format.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const auto formats = nibble::all_formats();
  if (size == 0) return 0;
  const nibble::Format& format = *formats[data[0] % formats.size()];
  if (size < 1 + format.spec().bytes) return 0;
  const auto* block = reinterpret_cast<const std::byte*>(data + 1);
  const std::size_t columns = std::size_t(format.block());
  nibble::Grid grid, again;
  std::vector<nibble::Code> codes(columns / std::size_t(format.spec().grain));
  std::vector<std::byte> packed(format.spec().bytes);
  std::vector<float> values(columns), repeated(columns);
  format.unpack(block, grid, codes.data());
  format.pack(grid, codes.data(), packed.data());
  format.unpack(packed.data(), again, codes.data());
  format.decode(block, 1, values.data());
  format.decode(packed.data(), 1, repeated.data());
  for (std::size_t i = 0; i < columns; ++i)
    NIBBLE_CHECK(std::bit_cast<std::uint32_t>(values[i]) ==
                     std::bit_cast<std::uint32_t>(repeated[i]) ||
                 (std::isnan(values[i]) && std::isnan(repeated[i])));
  return 0;
}
