// 8-bit floats in blocks (DeepSeek-V3, Qwen3-FP8), C columns and R rows, blocks of r x c:
//
//   X.weight            F8_E4M3 [R, C]
//   X.weight_scale_inv  F32 or BF16 [R / r, C / c], rounded up; W = scale * code, whatever its name
//                       says. [] or [1]: one for the matrix
//   X.activation_scale  or X.input_scale, [] or [1]: what inputs are divided by, where
//   activation_scheme
//                       is "static"; "dynamic": each token has a scale for every c columns
//
// config.json has "weight_block_size": [r, c], or null.
#include <cmath>

#include "base/utf8.h"
#include "container/scheme.h"
#include "format/levels.h"

namespace nibble {
namespace {

struct Settings {
  std::uint64_t rows = 0, columns = 0;  // of a block; 0: all
  bool static_inputs = false;
};

Result<Settings> read_settings(const Json& json) {
  Settings out;
  NIBBLE_TRY(const std::string kind, json_string_or(json, "fmt", "e4m3"));
  if (kind != "e4m3")
    return fail(ErrorCode::unsupported, "field 'fmt': {}, nibble reads e4m3", quote(kind));
  NIBBLE_TRY(const std::string inputs, json_string_or(json, "activation_scheme", "dynamic"));
  if (inputs != "dynamic" && inputs != "static")
    return fail(ErrorCode::unsupported,
                "field 'activation_scheme': {}, nibble knows dynamic and static", quote(inputs));
  out.static_inputs = inputs == "static";
  const auto size = json.find("weight_block_size");
  if (size == json.end() || size->is_null()) return out;
  if (!size->is_array() || size->size() != 2 || !(*size)[0].is_number_unsigned() ||
      !(*size)[1].is_number_unsigned() || (*size)[0] == 0u || (*size)[1] == 0u)
    return fail(ErrorCode::corrupt, "field 'weight_block_size' is not rows and columns");
  out.rows = (*size)[0].get<std::uint64_t>(), out.columns = (*size)[1].get<std::uint64_t>();
  return out;
}

class BlockFloats final : public PackedTensor {
 public:
  BlockFloats(TensorInfo info, std::vector<std::string> names, const RawTensor& codes,
              const RawTensor& scales, const Settings& block)
      : PackedTensor(std::move(info), std::move(names)),
        codes_(codes),
        scales_(scales),
        block_(block) {}

  void block(std::uint64_t row, std::uint64_t index, Grid& grid, Code* codes) const override {
    const auto n = std::uint64_t(info().format->block());
    const std::uint64_t first = index * n;
    const std::uint64_t down = block_.rows > 0 ? row / block_.rows * scales_.shape[1] : 0;
    const std::uint64_t across = block_.columns > 0 ? first / block_.columns : 0;
    grid.d = number_at(scales_, down + across);
    for (std::uint64_t j = 0; j < n; ++j)
      codes[j] = fp8_code(byte_at(codes_, row * info().columns() + first + j));
  }

 private:
  const RawTensor &codes_, &scales_;
  Settings block_;
};

class Reader {
 public:
  Reader(const Settings& settings, const RawTensors& tensors)
      : settings_(settings), tensors_(tensors) {}

  Result<std::unique_ptr<PackedTensor>> matrix(const std::string& stem) const {
    NIBBLE_TRY(const RawTensor* codes, tensors_.get(stem + ".weight", "F8_E4M3", {0, 0}));
    const std::uint64_t rows = codes->shape[0], columns = codes->shape[1];
    const Format& format = *find_format("fp8_g32_f32");
    if (settings_.columns % std::uint64_t(format.block()) != 0)
      return fail(ErrorCode::unsupported,
                  "field 'weight_block_size': {} columns, nibble reads multiples of {}",
                  settings_.columns, format.block());
    const std::string name = stem + kScale;
    const RawTensor* scales = nullptr;
    if (settings_.rows > 0) {
      const auto parts = [](std::uint64_t n, std::uint64_t size) { return (n - 1) / size + 1; };
      NIBBLE_TRY(scales,
                 tensors_.get(name, "number",
                              {parts(rows, settings_.rows), parts(columns, settings_.columns)}));
    } else {
      NIBBLE_TRY(scales, number(name));
    }
    if (!is_finite_e4m3(*codes))
      return fail(ErrorCode::corrupt, "tensor {}: holds a value that is not finite",
                  quote(codes->name));
    NIBBLE_TRY(TensorInfo info, matrix_info(codes->name, rows, columns, format));
    NIBBLE_TRY(info.inputs, inputs(stem));
    return std::make_unique<BlockFloats>(
        std::move(info), std::vector<std::string>{codes->name, name}, *codes, *scales, settings_);
  }

  static constexpr char kScale[] = ".weight_scale_inv";

 private:
  /// A tensor of one number.
  Result<const RawTensor*> number(const std::string& name) const {
    const RawTensor* found = tensors_.find(name);
    const bool plain = found && found->shape.empty();
    return tensors_.get(name, "number", std::vector<std::uint64_t>(plain ? 0 : 1, 1));
  }

  Result<InputRounding> inputs(const std::string& stem) const {
    InputRounding out{.kind = InputRounding::Kind::fp8};
    if (!settings_.static_inputs) {
      out.group = std::uint32_t(std::min<std::uint64_t>(settings_.columns, 1u << 31));
      return out;
    }
    const std::string usual = stem + ".activation_scale", other = stem + ".input_scale";
    NIBBLE_TRY(const RawTensor* scale, number(tensors_.find(other) ? other : usual));
    out.scale = number_at(*scale, 0);
    if (out.scale > 0 && std::isfinite(out.scale)) return out;
    return fail(ErrorCode::corrupt, "tensor {}: {}, expected a number above 0", quote(scale->name),
                out.scale);
  }

  const Settings& settings_;
  const RawTensors& tensors_;
};

class BlockFp8 final : public Scheme {
  std::string_view id() const override { return "fp8"; }
  std::string_view install() const override { return "pip install transformers"; }

  Result<std::unique_ptr<Packer>> packer(std::string_view text) const override {
    return fail(ErrorCode::unsupported,
                "'{}': nibble reads 8-bit floats in blocks and writes those with a scale a row: "
                "--to ct:fp8",
                text);
  }

  Result<Unpacked> unpack(const Json& json, const RawTensors& tensors) const override {
    NIBBLE_TRY_IN("quantization_config", const Settings settings, read_settings(json));
    const Reader reader(settings, tensors);
    Unpacked out;
    for (const auto& [name, tensor] : tensors.all()) {
      const auto stem = stem_of(name, Reader::kScale);
      if (!stem) continue;
      NIBBLE_TRY(auto made, reader.matrix(*stem));
      out.tensors.push_back(std::move(made));
    }
    return out;
  }

  bool ignores(std::string_view name) const override {
    return name.ends_with(".activation_scale") || name.ends_with(".input_scale");
  }
};

}  // namespace

namespace registry {
const Scheme& scheme_fp8() {
  static const BlockFp8 scheme;
  return scheme;
}
}  // namespace registry
}  // namespace nibble
