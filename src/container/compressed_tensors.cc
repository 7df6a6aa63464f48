// compressed-tensors checkpoints (llm-compressor, vLLM), C columns and R rows. What a matrix is
// made of says how it is packed, whatever the groups of config.json are called:
//
//   integers   X.weight_packed I32 [R, C b / 32]  codes, a stream of bits along the columns: value
//   +
//                                                 2^(b-1)
//              X.weight_shape I64 [2], X.weight_scale [R, G], and with zero points
//              X.weight_zero_point I32 [R b / 32, G], a stream along the rows; the group of each
//              column in X.weight_g_idx I32 [C] where they are not in their order, which the
//              package no longer writes or reads (0.20)
//   int8       X.weight I8 [R, C], X.weight_scale [R, 1] or [1]; X.weight_zero_point I8 like it
//   fp8        X.weight F8_E4M3 [R, C], X.weight_scale [R, 1] or [1]
//   mxfp4      X.weight_packed U8 [R, C / 2], the even column of a pair in the low half;
//              X.weight_scale U8 [R, C / 32]: 2^(s - 127)
//   nvfp4      the same codes; X.weight_scale F8_E4M3 [R, C / 16], X.weight_global_scale F32 [1], a
//              divisor
//
// How inputs are rounded: compressed_groups.h. Scales of outputs, keys and values are not used.
#include <algorithm>
#include <cmath>

#include "base/utf8.h"
#include "container/compressed_groups.h"
#include "container/scheme.h"
#include "format/bits.h"
#include "format/levels.h"

namespace nibble {
namespace {

/// What NVFP4's scales are multiplied by, so that 8-bit floats hold those of weights up to 5.25.
/// The same for all matrices, since runtimes join some and want one number for them.
constexpr float kGlobalScale = 512;

using Names = std::vector<std::string>;

/// Scales [R, G], [R, 1] or [1].
class Scales {
 public:
  Scales() = default;
  explicit Scales(const RawTensor& tensor)
      : tensor_(&tensor), groups_(tensor.shape.size() == 2 ? tensor.shape[1] : 0) {}
  float at(std::uint64_t row, std::uint64_t group) const {
    return number_at(*tensor_, index(row, group));
  }
  std::uint64_t index(std::uint64_t row, std::uint64_t group) const {
    return groups_ == 0 ? 0 : row * groups_ + group;
  }

 private:
  const RawTensor* tensor_ = nullptr;
  std::uint64_t groups_ = 0;  // 0: one for the matrix
};

class PackedIntegers final : public PackedTensor {
 public:
  PackedIntegers(TensorInfo info, Names names, const RawTensor& codes, const RawTensor& scales,
                 const RawTensor* zeros, unsigned bits)
      : PackedTensor(std::move(info), std::move(names)),
        codes_(codes),
        scales_(scales),
        zeros_(zeros),
        bits_(bits),
        groups_(scales.shape[1]) {}

  void block(std::uint64_t row, std::uint64_t index, Grid& grid, Code* codes) const override {
    const auto n = std::uint64_t(info().format->block());
    const std::uint64_t group = index * n / (info().columns() / groups_);
    grid.d = scales_.at(row, group);
    if (zeros_)
      grid.dmin = float(int(field_at(*zeros_, group, groups_, row, bits_)) - (1 << (bits_ - 1)));
    const std::uint64_t line = row * codes_.shape[1], first = index * n;
    const ColumnOrder& order = info().order;
    for (std::uint64_t j = 0; j < n; ++j)
      codes[j] = field_at(codes_, line, 1, order ? (*order)[first + j] : first + j, bits_);
  }

 private:
  const RawTensor& codes_;
  Scales scales_;
  const RawTensor* zeros_;
  unsigned bits_;
  std::uint64_t groups_;
};

/// A byte an element: int8 and fp8.
class Bytes final : public PackedTensor {
 public:
  Bytes(TensorInfo info, Names names, const RawTensor& codes, const RawTensor& scales,
        const RawTensor* zeros)
      : PackedTensor(std::move(info), std::move(names)),
        codes_(codes),
        scales_(scales),
        zeros_(zeros) {}

  void block(std::uint64_t row, std::uint64_t index, Grid& grid, Code* codes) const override {
    const auto n = std::uint64_t(info().format->block());
    grid.d = scales_.at(row, 0);
    if (zeros_) grid.dmin = float(std::int8_t(byte_at(*zeros_, scales_.index(row, 0))));
    const std::uint64_t first = row * info().columns() + index * n;
    const bool floats = codes_.is("F8_E4M3");
    for (std::uint64_t j = 0; j < n; ++j) {
      const std::uint8_t byte = byte_at(codes_, first + j);
      codes[j] = floats ? fp8_code(byte) : byte ^ 0x80u;
    }
  }

 private:
  const RawTensor& codes_;
  Scales scales_;
  const RawTensor* zeros_;
};

/// Floats of 4 bits: sign, 2 bits of exponent, 1 of mantissa.
class FourBitFloats final : public PackedTensor {
 public:
  FourBitFloats(TensorInfo info, Names names, const RawTensor& codes, const RawTensor& scales,
                float divisor)
      : PackedTensor(std::move(info), std::move(names)),
        codes_(codes),
        scales_(scales),
        divisor_(divisor) {}

  void block(std::uint64_t row, std::uint64_t index, Grid& grid, Code* codes) const override {
    const auto n = std::uint64_t(info().format->block());
    const std::uint64_t at = row * scales_.shape[1] + index;
    // Levels are twice the floats.
    grid.d = scales_.is("U8") ? std::ldexp(0.5f, int(byte_at(scales_, at)) - 127)
                              : number_at(scales_, at) / divisor_ * 0.5f;
    const std::uint64_t first = (row * info().columns() + index * n) / 2;
    for (std::uint64_t j = 0; j < n; ++j) {
      codes[j] = float4_code(byte_at(codes_, first + j / 2) >> (j % 2 * 4) & 15);
    }
  }

 private:
  const RawTensor &codes_, &scales_;
  float divisor_;
};

class Reader {
 public:
  Reader(const RawTensors& tensors, CompressedGroups& groups)
      : tensors_(tensors), groups_(groups) {}

  Result<std::unique_ptr<PackedTensor>> packed(const std::string& stem) {
    const std::string codes = stem + ".weight_packed";
    return tensors_.find(codes)->is("U8") ? floats(stem, codes) : integers(stem, codes);
  }

  Result<std::unique_ptr<PackedTensor>> bytes(const std::string& stem, const RawTensor& codes) {
    NIBBLE_TRY(const RawTensor* same, tensors_.get(codes.name, codes.dtype->name, {0, 0}));
    const std::uint64_t rows = same->shape[0];
    NIBBLE_TRY(const RawTensor* scales, row_scales(stem + ".weight_scale", "number", rows));
    Names names = {codes.name, scales->name};
    const RawTensor* zeros = nullptr;
    if (tensors_.find(stem + ".weight_zero_point")) {
      NIBBLE_TRY(zeros, row_scales(stem + ".weight_zero_point", "I8", rows));
      if (zeros->shape != scales->shape)
        return fail(ErrorCode::corrupt, "tensor {} is {}, but the scales are {}",
                    quote(zeros->name), zeros->describe(), scales->describe());
      names.push_back(zeros->name);
    }
    if (codes.is("F8_E4M3") && (zeros || !is_finite_e4m3(codes)))
      return fail(ErrorCode::corrupt, "tensor {}: holds {}", quote(codes.name),
                  zeros ? "floats with a zero point" : "a value that is not finite");
    NIBBLE_TRY(const Format* format, byte_format(codes, *scales, zeros));
    const Codes kind{codes.is("I8") ? "int" : "float", 8};
    NIBBLE_TRY(TensorInfo info, describe(stem, kind, rows, same->shape[1], *format));
    return std::make_unique<Bytes>(std::move(info), std::move(names), codes, *scales, zeros);
  }

 private:
  struct Codes {
    std::string_view type;
    std::uint64_t bits;
  };
  Result<TensorInfo> describe(const std::string& stem, const Codes& codes, std::uint64_t rows,
                              std::uint64_t columns, const Format& format) {
    NIBBLE_TRY(TensorInfo info, matrix_info(stem + ".weight", rows, columns, format));
    NIBBLE_TRY(info.inputs, groups_.of(stem, codes.type, codes.bits, tensors_));
    return info;
  }

  Result<const RawTensor*> row_scales(const std::string& name, std::string_view type,
                                      std::uint64_t rows) const {
    const RawTensor* found = tensors_.find(name);
    if (found && found->shape.size() == 1) return tensors_.get(name, type, {1});
    return tensors_.get(name, type, {rows, 1});
  }

  static Result<const Format*> byte_format(const RawTensor& codes, const RawTensor& scales,
                                           const RawTensor* zeros) {
    if (codes.is("F8_E4M3")) return find_format(scales.is("BF16") ? "fp8_row" : "fp8_row_f32");
    return integer_format({.bits = 8,
                           .columns = codes.shape[1],
                           .zero_point = zeros != nullptr,
                           .scales = scales.dtype});
  }

  Result<std::unique_ptr<PackedTensor>> integers(const std::string& stem, const std::string& name) {
    NIBBLE_TRY(const RawTensor* codes, tensors_.get(name, "I32", {0, 0}));
    NIBBLE_TRY(const RawTensor* shape, tensors_.get(stem + ".weight_shape", "I64", {2}));
    const std::uint64_t rows = codes->shape[0], words = codes->shape[1];
    const std::uint64_t columns = word_at(*shape, 2);
    unsigned bits = 0;
    for (const unsigned each : {2u, 3u, 4u, 8u})
      if (columns > 0 && words == (columns * each + 31) / 32) bits = each;
    if (word_at(*shape, 0) != rows || word_at(*shape, 1) != 0 || word_at(*shape, 3) != 0 ||
        bits == 0)
      return fail(ErrorCode::corrupt, "tensor {} is {}, but {} says {} x {}", quote(name),
                  codes->describe(), quote(shape->name), word_at(*shape, 0), columns);
    NIBBLE_TRY(const RawTensor* scales, tensors_.get(stem + ".weight_scale", "number", {rows, 0}));
    const std::uint64_t groups = scales->shape[1];
    if (groups > columns || columns % groups != 0)
      return fail(ErrorCode::corrupt, "tensor {}: {} groups of {} columns", quote(scales->name),
                  groups, columns);
    Names names = {name, shape->name, scales->name};
    const RawTensor* zeros = nullptr;
    if (tensors_.find(stem + ".weight_zero_point")) {
      NIBBLE_TRY(zeros, tensors_.get(stem + ".weight_zero_point", "I32",
                                     {(rows * bits + 31) / 32, groups}));
      names.push_back(zeros->name);
    }
    NIBBLE_TRY(const Format* format, integer_format({.bits = bits,
                                                     .columns = columns,
                                                     .group = columns / groups,
                                                     .zero_point = zeros != nullptr,
                                                     .scales = scales->dtype}));
    NIBBLE_TRY(TensorInfo info, describe(stem, {"int", bits}, rows, columns, *format));
    const std::string index = stem + ".weight_g_idx";
    if (groups_.act_order(stem, "int", bits) || tensors_.find(index)) {
      NIBBLE_TRY(const RawTensor* g_idx, tensors_.get(index, "I32", {columns}));
      NIBBLE_TRY(info.order, order_of_groups(*g_idx, columns / groups));
      names.push_back(index);
    }
    return std::make_unique<PackedIntegers>(std::move(info), std::move(names), *codes, *scales,
                                            zeros, bits);
  }

  Result<std::unique_ptr<PackedTensor>> floats(const std::string& stem, const std::string& name) {
    NIBBLE_TRY(const RawTensor* codes, tensors_.get(name, "U8", {0, 0}));
    const std::uint64_t rows = codes->shape[0], columns = codes->shape[1] * 2;
    const bool divided = tensors_.find(stem + ".weight_global_scale") != nullptr;
    NIBBLE_TRY(const RawTensor* scales,
               tensors_.get(stem + ".weight_scale", divided ? "F8_E4M3" : "U8",
                            {rows, columns / (divided ? 16 : 32)}));
    Names names = {name, scales->name};
    float divisor = 1;
    if (divided) {
      NIBBLE_TRY(const RawTensor* global, tensors_.get(stem + ".weight_global_scale", "F32", {1}));
      divisor = number_at(*global, 0);
      if (!(divisor > 0) || !std::isfinite(divisor))
        return fail(ErrorCode::corrupt, "tensor {}: {}", quote(global->name), divisor);
      names.push_back(global->name);
    }
    NIBBLE_TRY(TensorInfo info, describe(stem, {"float", 4}, rows, columns,
                                         *find_format(!divided                  ? "mxfp4"
                                                      : divisor == kGlobalScale ? "nvfp4_512"
                                                                                : "nvfp4")));
    return std::make_unique<FourBitFloats>(std::move(info), std::move(names), *codes, *scales,
                                           divisor);
  }

  const RawTensors& tensors_;
  CompressedGroups& groups_;
};

/// What config.json says of weights and activations.
struct Kind {
  const char *text, *format;  // what people write, and what nibble has; the group comes behind
  const char* layout;         // "pack-quantized"
  const char* type;           // "int", "float"
  int bits;
  bool grouped;         // or one scale a row
  bool rounded_inputs;  // activations have 8 bits, a scale a token
};
constexpr Kind kKinds[] = {
    {"w4a16", "int4", "pack-quantized", "int", 4, true, false},
    {"w8a16", "int8", "pack-quantized", "int", 8, true, false},
    {"w8a8", "int8", "int-quantized", "int", 8, false, true},
    {"fp8", "fp8", "float-quantized", "float", 8, false, true},
    {"mxfp4", "mxfp4", "mxfp4-pack-quantized", "float", 4, true, false},
    {"nvfp4", "nvfp4_512", "nvfp4-pack-quantized", "float", 4, true, false},
};

class CompressedPacker final : public Packer {
 public:
  struct Options {
    bool symmetric = true, static_inputs = false;
  };

  CompressedPacker(const Kind& kind, std::uint64_t group, const Options& options)
      : kind_(kind), group_(group), options_(options) {
    std::string id = kind.format;
    if (id == "fp8") id += "_row";
    if (id.starts_with("int")) {
      id += group > 0 ? fmt::format("_g{}", group) : "_row";
      id += options.symmetric ? "_bf16" : "_zp_bf16";
    }
    format_ = find_format(id);
  }

  const Format& format() const override { return *format_; }
  /// Of 8-bit integers a single outlier takes most of a token. SmolLM2-135M, KL divergence with
  /// error feedback: 0.033, with SmoothQuant before it 0.012.
  std::string_view usual_transform() const override {
    return kind_.rounded_inputs && kind_.type == std::string_view("int") ? "smoothquant" : "";
  }
  bool needs_largest_input() const override { return options_.static_inputs; }
  InputRounding stored_inputs(float largest) const override {
    if (!options_.static_inputs) return {};
    return {.kind = InputRounding::Kind::fp8, .scale = largest / kLargestE4m3};
  }

  Json settings(const std::vector<std::string>& kept) const override {
    Json weights = {{"num_bits", unsigned(kind_.bits)},
                    {"type", kind_.type},
                    {"symmetric", options_.symmetric},
                    {"strategy", group_ > 0 ? "group" : "channel"},
                    {"group_size", nullptr},
                    {"dynamic", false}};
    if (group_ > 0) weights["group_size"] = group_;
    if (group_ == 32 && floats()) weights["scale_dtype"] = "torch.uint8";
    if (nvidia()) {
      weights["strategy"] = "tensor_group";
      weights["scale_dtype"] = "torch.float8_e4m3fn";
    }
    Json inputs;
    if (kind_.rounded_inputs)
      inputs = {{"num_bits", 8u},        {"type", kind_.type},
                {"symmetric", true},     {"strategy", options_.static_inputs ? "tensor" : "token"},
                {"group_size", nullptr}, {"dynamic", !options_.static_inputs}};
    const Json group = {{"targets", {"Linear"}},
                        {"weights", weights},
                        {"input_activations", inputs},
                        {"output_activations", nullptr},
                        {"format", kind_.layout}};
    return {{"quantization_config",
             {{"quant_method", "compressed-tensors"},
              {"format", kind_.layout},
              {"quantization_status", "compressed"},
              {"config_groups", {{"group_0", group}}},
              {"ignore", kept}}}};
  }

  Result<std::vector<PartInfo>> parts(const TensorInfo& weight) const override {
    const std::uint64_t rows = weight.rows(), columns = weight.columns();
    const std::string& name = weight.name;
    const Dtype* number = find_dtype("BF16");
    if (!packed()) {
      const Dtype* code = find_dtype(kind_.type == std::string_view("int") ? "I8" : "F8_E4M3");
      std::vector<PartInfo> out = {{name, code, {rows, columns}},
                                   {name + "_scale", number, {rows, 1}}};
      if (options_.static_inputs)
        out.push_back({*stem_of(name, ".weight") + ".input_scale", number, {1}});
      return out;
    }
    if (floats()) {
      const Dtype* byte = find_dtype("U8");
      std::vector<PartInfo> out = {
          {name + "_packed", byte, {rows, columns / 2}},
          {name + "_scale", nvidia() ? find_dtype("F8_E4M3") : byte, {rows, columns / group_}}};
      if (nvidia()) out.push_back({name + "_global_scale", find_dtype("F32"), {1}});
      return out;
    }
    const auto bits = std::uint64_t(kind_.bits), groups = group_ > 0 ? columns / group_ : 1;
    if (columns * bits % 32 != 0 || (!options_.symmetric && rows * bits % 32 != 0))
      return fail(ErrorCode::unsupported, "{} x {} codes of {} bits are no whole words", rows,
                  columns, bits);
    std::vector<PartInfo> out = {{name + "_packed", find_dtype("I32"), {rows, columns * bits / 32}},
                                 {name + "_scale", number, {rows, groups}},
                                 {name + "_shape", find_dtype("I64"), {2}}};
    if (!options_.symmetric)
      out.push_back({name + "_zero_point", find_dtype("I32"), {rows * bits / 32, groups}});
    return out;
  }

  void pack(const TensorInfo& weight, std::span<const std::byte> bytes,
            std::span<const std::span<std::byte>> parts) const override {
    if (!packed())
      pack_bytes(weight, bytes, parts);
    else if (floats())
      pack_floats(weight, bytes, parts);
    else
      pack_integers(weight, bytes, parts);
  }

 private:
  bool packed() const {
    return std::string_view(kind_.layout).find("pack-") != std::string_view::npos;
  }
  bool floats() const { return kind_.type == std::string_view("float"); }
  bool nvidia() const { return group_ == 16; }

  void pack_bytes(const TensorInfo& weight, std::span<const std::byte> bytes,
                  std::span<const std::span<std::byte>> parts) const {
    const auto n = std::uint64_t(format_->block());
    for_each_block(weight, bytes,
                   [&](std::uint64_t row, std::uint64_t b, const Grid& grid, const Code* codes) {
                     for (std::uint64_t j = 0; j < n; ++j)
                       parts[0][row * weight.columns() + b * n + j] =
                           std::byte(floats() ? fp8_bits(codes[j]) : codes[j] ^ 0x80u);
                     put_number(parts[1], *find_dtype("BF16"), row, grid.d);
                   });
    if (options_.static_inputs) put_number(parts[2], *find_dtype("BF16"), 0, weight.inputs.scale);
  }

  void pack_floats(const TensorInfo& weight, std::span<const std::byte> bytes,
                   std::span<const std::span<std::byte>> parts) const {
    const std::uint64_t blocks = weight.columns() / group_;
    for_each_block(weight, bytes,
                   [&](std::uint64_t row, std::uint64_t b, const Grid& grid, const Code* codes) {
                     // Processors take the scale to have no sign: the levels have both.
                     const Code flip = grid.d < 0 ? 15 : 0;
                     for (std::uint64_t j = 0; j < group_; j += 2)
                       parts[0][((row * blocks + b) * group_ + j) / 2] = std::byte(
                           float4_bits(codes[j] ^ flip) | float4_bits(codes[j + 1] ^ flip) << 4);
                     parts[1][row * blocks + b] =
                         std::byte(nvidia()     ? f32_to_e4m3(std::fabs(grid.d) * 2 * kGlobalScale)
                                   : grid.d > 0 ? std::clamp(std::ilogb(grid.d) + 128, 0, 254)
                                                : 0);
                   });
    if (nvidia()) put_number(parts[2], *find_dtype("F32"), 0, kGlobalScale);
  }

  void pack_integers(const TensorInfo& weight, std::span<const std::byte> bytes,
                     std::span<const std::span<std::byte>> parts) const {
    const auto bits = unsigned(kind_.bits);
    const std::uint64_t columns = weight.columns(), words = columns * bits / 32;
    const std::uint64_t group = group_ > 0 ? group_ : columns, groups = columns / group;
    const auto n = std::uint64_t(format_->block());
    for_each_block(weight, bytes,
                   [&](std::uint64_t row, std::uint64_t b, const Grid& grid, const Code* codes) {
                     for (std::uint64_t j = 0; j < n; ++j)
                       put_field(parts[0], row * words, 1, b * n + j, bits, codes[j]);
                     if (b * n % group != 0) return;
                     const std::uint64_t g = b * n / group;
                     put_number(parts[1], *find_dtype("BF16"), row * groups + g, grid.d);
                     if (!options_.symmetric)
                       put_field(parts[3], g, groups, row, bits,
                                 std::uint32_t(int(grid.dmin) + (1 << (bits - 1))));
                   });
    put_field(parts[2], 0, 1, 0, 32, std::uint32_t(weight.rows()));
    put_field(parts[2], 0, 1, 2, 32, std::uint32_t(columns));
  }

  const Kind& kind_;
  std::uint64_t group_;  // 0: the whole row
  Options options_;
  const Format* format_;
};

class CompressedTensors final : public Scheme {
  std::string_view id() const override { return "compressed-tensors"; }
  std::string_view name() const override { return "ct"; }
  std::string_view install() const override {
    return "pip install transformers compressed-tensors";
  }

  Result<std::unique_ptr<Packer>> packer(std::string_view text) const override {
    PackingText words(text);
    const auto kind = std::ranges::find(kKinds, words.type(),
                                        [](const Kind& k) { return std::string_view(k.text); });
    if (kind == std::end(kKinds))
      return fail(
          ErrorCode::invalid,
          "'{}': compressed-tensors checkpoints are w4a16, w8a16, w8a8, fp8, mxfp4 or nvfp4", text);
    std::uint64_t group = kind->text == std::string_view("mxfp4")   ? 32
                          : kind->text == std::string_view("nvfp4") ? 16
                                                                    : 0;
    CompressedPacker::Options options;
    if (kind->grouped && group == 0) {
      NIBBLE_TRY(group, words.take_group(kind->bits == 4 ? 128 : 0));
      options.symmetric = !words.take("asym");
      words.take("sym");
    }
    options.static_inputs = kind->format == std::string_view("fp8") && words.take("static");
    NIBBLE_DO(words.done());
    return std::make_unique<CompressedPacker>(*kind, group, options);
  }

  Result<Unpacked> unpack(const Json& settings, const RawTensors& tensors) const override {
    Unpacked out;
    NIBBLE_TRY(CompressedGroups groups, CompressedGroups::parse(settings));
    Reader reader(tensors, groups);
    for (const auto& [name, tensor] : tensors.all()) {
      if (const auto stem = stem_of(name, ".weight_packed")) {
        NIBBLE_TRY(auto made, reader.packed(*stem));
        out.tensors.push_back(std::move(made));
      } else if (const auto scaled = stem_of(name, ".weight");
                 scaled && (tensor->is("I8") || tensor->is("F8_E4M3"))) {
        NIBBLE_TRY(auto made, reader.bytes(*scaled, *tensor));
        out.tensors.push_back(std::move(made));
      }
    }
    out.notes = groups.notes();
    return out;
  }

  bool ignores(std::string_view name) const override {
    return name.ends_with(".input_scale") || name.ends_with(".input_zero_point") ||
           name.ends_with(".input_global_scale") || name.ends_with(".output_scale") ||
           name.ends_with(".k_scale") || name.ends_with(".v_scale");
  }
};

}  // namespace

namespace registry {
const Scheme& scheme_compressed_tensors() {
  static const CompressedTensors scheme;
  return scheme;
}
}  // namespace registry
}  // namespace nibble
