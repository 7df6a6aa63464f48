// A quantized checkpoint: config.json in the first line, then a .safetensors file. Whatever a
// scheme accepts can be read and decoded.
#include "container/scheme.h"

#include <algorithm>

#include "container/safetensors_parse.h"

namespace {

constexpr std::uint64_t kMostElements = 1 << 20;  // so that one input takes milliseconds

void read_all(const nibble::PackedTensor& tensor) {
  const nibble::TensorInfo& info = tensor.info();
  if (info.elements() > kMostElements) return;
  std::vector<std::byte> bytes(info.bytes);
  std::vector<float> values(info.elements());
  tensor.read(0, info.rows(), bytes.data());
  info.format->decode(bytes.data(), values.size() / std::size_t(info.format->block()),
                      values.data());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::uint8_t* const line = std::find(data, data + size, '\n');
  if (line == data + size) return 0;
  const auto config =
      nibble::parse_json({reinterpret_cast<const char*>(data), std::size_t(line - data)});
  if (!config || !config->is_object()) return 0;
  const auto tensors = nibble::parse_safetensors(
      {reinterpret_cast<const std::byte*>(line + 1), std::size_t(data + size - line - 1)});
  if (!tensors) return 0;
  const nibble::RawTensors all(*tensors);
  for (const nibble::Scheme* scheme : nibble::scheme_registry()) {
    const nibble::Json* settings = scheme->settings(*config);
    if (!settings) continue;
    const auto unpacked = scheme->unpack(*settings, all);
    if (!unpacked) continue;
    for (const auto& tensor : unpacked->tensors) read_all(*tensor);
  }
  return 0;
}
