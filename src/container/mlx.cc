// MLX checkpoints (Apple), C columns and R rows, b bits, groups of g:
//
//   X.weight  U32 [R, C b / 32]  codes, a stream of bits along the columns, low bits first
//   X.scales  F16 [R, C / g]     or BF16
//   X.biases  F16 [R, C / g]     W = scale * code + bias
//
// config.json has them under "quantization": {"group_size", "bits"}.
#include "base/utf8.h"
#include "container/scheme.h"

namespace nibble {
namespace {

class MlxTensor final : public PackedTensor {
 public:
  MlxTensor(TensorInfo info, std::vector<std::string> names, const RawTensor& codes,
            const RawTensor& scales, const RawTensor& biases, unsigned bits)
      : PackedTensor(std::move(info), std::move(names)),
        codes_(codes),
        scales_(scales),
        biases_(biases),
        bits_(bits) {}

  void block(std::uint64_t row, std::uint64_t index, Grid& grid, Code* codes) const override {
    const auto n = std::uint64_t(info().format->block());
    const std::uint64_t groups = scales_.shape[1];
    const std::uint64_t at = row * groups + index * n / (info().columns() / groups);
    grid.d = number_at(scales_, at);
    // Where levels are bytes with a sign the first is -128.
    grid.dmin = number_at(biases_, at) - grid.d * info().format->level_values().front();
    const std::uint64_t line = row * codes_.shape[1];
    for (std::uint64_t j = 0; j < n; ++j)
      codes[j] = field_at(codes_, line, 1, index * n + j, bits_);
  }

 private:
  const RawTensor &codes_, &scales_, &biases_;
  unsigned bits_;
};

class MlxPacker final : public Packer {
 public:
  MlxPacker(unsigned bits, std::uint64_t group)
      : bits_(bits),
        group_(group),
        format_(find_format(fmt::format("int{}_g{}_min", bits, group))) {}

  const Format& format() const override { return *format_; }

  Json settings(const std::vector<std::string>&) const override {
    const Json both = {{"group_size", group_}, {"bits", bits_}};
    return {{"quantization", both}, {"quantization_config", both}};
  }

  Result<std::vector<PartInfo>> parts(const TensorInfo& weight) const override {
    const std::uint64_t rows = weight.rows(), columns = weight.columns();
    if (columns * bits_ % 32 != 0)
      return fail(ErrorCode::unsupported, "{} codes of {} bits are no whole words", columns, bits_);
    const std::string stem = *stem_of(weight.name, ".weight");
    const Dtype* half = find_dtype("F16");
    return std::vector<PartInfo>{
        {stem + ".weight", find_dtype("U32"), {rows, columns * bits_ / 32}},
        {stem + ".scales", half, {rows, columns / group_}},
        {stem + ".biases", half, {rows, columns / group_}}};
  }

  void pack(const TensorInfo& weight, std::span<const std::byte> bytes,
            std::span<const std::span<std::byte>> parts) const override {
    const std::uint64_t words = weight.columns() * bits_ / 32, groups = weight.columns() / group_;
    const Dtype& half = *find_dtype("F16");
    for_each_block(weight, bytes,
                   [&](std::uint64_t row, std::uint64_t b, const Grid& grid, const Code* codes) {
                     for (std::uint64_t j = 0; j < group_; ++j)
                       put_field(parts[0], row * words, 1, b * group_ + j, bits_, codes[j]);
                     put_number(parts[1], half, row * groups + b, grid.d);
                     put_number(parts[2], half, row * groups + b, grid.dmin);
                   });
  }

 private:
  unsigned bits_;
  std::uint64_t group_;
  const Format* format_;
};

class Mlx final : public Scheme {
  std::string_view id() const override { return "mlx"; }
  std::string_view library() const override { return "mlx"; }
  std::string_view install() const override { return "pip install mlx-lm"; }

  // Of 8 bits only those are left out: what the bias of code 0 is as one of level -128 is no fp16.
  Result<std::unique_ptr<Packer>> packer(std::string_view text) const override {
    PackingText words(text);
    unsigned bits = 0;
    for (const unsigned each : {2u, 3u, 4u})
      if (words.type() == fmt::format("int{}", each)) bits = each;
    if (bits == 0)
      return fail(ErrorCode::invalid, "'{}': MLX checkpoints are int2, int3 or int4", text);
    NIBBLE_TRY(const std::uint64_t group, words.take_group(64));
    NIBBLE_DO(words.done());
    if (group == 0) return fail(ErrorCode::invalid, "'{}': MLX has groups of 32, 64 or 128", text);
    return std::make_unique<MlxPacker>(bits, group);
  }

  const Json* settings(const Json& config) const override {
    const auto found = config.find("quantization");
    return found != config.end() && found->is_object() && found->contains("group_size") ? &*found
                                                                                        : nullptr;
  }

  Result<Unpacked> unpack(const Json& settings, const RawTensors& tensors) const override {
    NIBBLE_TRY_IN("quantization", const auto group, json_uint(settings, "group_size"));
    NIBBLE_TRY_IN("quantization", const auto bits, json_uint(settings, "bits"));
    if ((bits != 2 && bits != 3 && bits != 4 && bits != 8) ||
        (group != 32 && group != 64 && group != 128))
      return fail(
          ErrorCode::unsupported,
          "quantization: {} bits in groups of {}; nibble reads 2, 3, 4 and 8 in groups of 32, 64 "
          "and 128",
          bits, group);
    Unpacked out;
    for (const auto& [name, tensor] : tensors.all()) {
      const auto stem = stem_of(name, ".scales");
      if (!stem) continue;
      NIBBLE_TRY(auto made, make(*stem, unsigned(bits), group, tensors));
      out.tensors.push_back(std::move(made));
    }
    return out;
  }

  static Result<std::unique_ptr<PackedTensor>> make(const std::string& stem, unsigned bits,
                                                    std::uint64_t group,
                                                    const RawTensors& tensors) {
    NIBBLE_TRY(const RawTensor* codes, tensors.get(stem + ".weight", "U32", {0, 0}));
    const std::uint64_t rows = codes->shape[0], columns = codes->shape[1] * 32 / bits;
    if (codes->shape[1] * 32 % bits != 0 || columns % group != 0)
      return fail(ErrorCode::corrupt, "tensor {}: {} is no matrix of {} bits in groups of {}",
                  quote(codes->name), codes->describe(), bits, group);
    NIBBLE_TRY(const RawTensor* scales,
               tensors.get(stem + ".scales", "number", {rows, columns / group}));
    NIBBLE_TRY(const RawTensor* biases,
               tensors.get(stem + ".biases", scales->dtype->name, {rows, columns / group}));
    // -128 scales below the bias is no fp16 number.
    const bool wide = bits == 8 || scales->is("F32");
    const Format* format = find_format(fmt::format("int{}_g{}_min{}", bits, group,
                                                   wide                 ? "_f32"
                                                   : scales->is("BF16") ? "_bf16"
                                                                        : ""));
    NIBBLE_TRY(TensorInfo info, matrix_info(stem + ".weight", rows, columns, *format));
    return std::make_unique<MlxTensor>(
        std::move(info), std::vector<std::string>{codes->name, scales->name, biases->name}, *codes,
        *scales, *biases, bits);
  }
};

}  // namespace

namespace registry {
const Scheme& scheme_mlx() {
  static const Mlx scheme;
  return scheme;
}
}  // namespace registry
}  // namespace nibble
