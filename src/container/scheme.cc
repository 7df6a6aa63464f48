#include "container/scheme.h"

namespace nibble {

void PackedTensor::read(std::uint64_t begin, std::uint64_t end, std::byte* out) const {
  const Format& format = *info_.format;
  const std::uint64_t blocks = info_.columns() / std::uint64_t(format.block());
  Code codes[kMaxBlock];
  for (std::uint64_t row = begin; row < end; ++row)
    for (std::uint64_t b = 0; b < blocks; ++b, out += format.spec().bytes) {
      Grid grid;
      block(row, b, grid, codes);
      format.pack(grid, codes, out);
    }
}

const Json* Scheme::settings(const Json& config) const {
  const auto found = config.find("quantization_config");
  if (found == config.end() || !found->is_object()) return nullptr;
  const auto method = found->find("quant_method");
  return method != found->end() && *method == std::string(id()) ? &*found : nullptr;
}

Result<const Format*> integer_format(const Integers& integers) {
  const std::uint64_t group = integers.group == 0 ? integers.columns : integers.group;
  std::string id = fmt::format("int{}", integers.bits);
  if (group >= integers.columns)
    id += "_row";
  else if (group % 128 == 0)
    id += "_g128";
  else if (group == 64 || group == 32)
    id += fmt::format("_g{}", group);
  else
    return fail(ErrorCode::unsupported,
                "groups of {} columns; nibble reads 32, 64 and multiples of 128", group);
  if (integers.zero_point) id += "_zp";
  if (integers.scales->name == "BF16") id += "_bf16";
  if (integers.scales->name == "F32") id += "_f32";
  const Format* format = find_format(id);
  if (format) return format;
  return fail(ErrorCode::unsupported, "integers of {} bits; nibble reads 2, 3, 4 and 8",
              integers.bits);
}

Result<TensorInfo> matrix_info(const std::string& weight, std::uint64_t rows, std::uint64_t columns,
                               const Format& format) {
  TensorInfo info{.name = weight, .shape = {rows, columns}, .format = &format};
  NIBBLE_TRY(info.bytes, stored_bytes(format, info.shape));
  return info;
}

std::optional<std::string> stem_of(const std::string& name, std::string_view ending) {
  if (!name.ends_with(ending) || name.size() == ending.size()) return std::nullopt;
  return name.substr(0, name.size() - ending.size());
}

}  // namespace nibble
