// Decoding equals the PyPI package `gguf` bit for bit (formats/*.bin, written by make_formats.py).
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "format/format.h"

namespace nibble {
namespace {

TEST(FormatGolden, DecodesAsGgufDoes) {
  for (const Format* format : all_formats()) {
    if (format->spec().ggml_type < 0) continue;
    SCOPED_TRACE(format->id());
    const std::string path =
        std::string(NIBBLE_TEST_DATA) + "/golden/formats/" + std::string(format->id()) + ".bin";
    std::ifstream file(path, std::ios::binary);
    const std::string data((std::istreambuf_iterator<char>(file)), {});
    const std::size_t bytes = format->spec().bytes, block = std::size_t(format->block());
    const std::size_t blocks = data.size() / (bytes + 4 * block);
    ASSERT_GT(blocks, 0u) << path << ": run make_formats.py";
    std::vector<float> expected(blocks * block), decoded(blocks * block);
    ASSERT_EQ(data.size(), blocks * bytes + 4 * expected.size());
    std::memcpy(expected.data(), data.data() + blocks * bytes, 4 * expected.size());
    format->decode(reinterpret_cast<const std::byte*>(data.data()), blocks, decoded.data());
    for (std::size_t i = 0; i < expected.size(); ++i) {
      if (std::isnan(expected[i]) && std::isnan(decoded[i])) continue;  // payloads differ by CPU
      ASSERT_EQ(std::bit_cast<std::uint32_t>(decoded[i]), std::bit_cast<std::uint32_t>(expected[i]))
          << i << ": " << decoded[i] << " is not " << expected[i];
    }
  }
}

}  // namespace
}  // namespace nibble
