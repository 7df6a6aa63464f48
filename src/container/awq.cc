// AWQ checkpoints in the GEMM layout (AutoAWQ, GPTQModel), C columns and R rows, 4 bits:
//
//   X.qweight  I32 [C, R / 8]  codes; nibble i of a word, low bits first, is row
//   [0,2,4,6,1,3,5,7][i]
//                              of its eight
//   X.qzeros   I32 [G, R / 8]  zero points, in the same order
//   X.scales   F16 [G, R]      or BF16; W = scale * (code - zero)
#include "base/utf8.h"
#include "container/scheme.h"

namespace nibble {
namespace {

constexpr unsigned kBits = 4;
constexpr unsigned kNibbleOf[8] = {0, 4, 1, 5, 2, 6, 3, 7};  // row of a word -> its nibble

class AwqTensor final : public PackedTensor {
 public:
  AwqTensor(TensorInfo info, std::vector<std::string> names, const RawTensor& qweight,
            const RawTensor& qzeros, const RawTensor& scales)
      : PackedTensor(std::move(info), std::move(names)),
        qweight_(qweight),
        qzeros_(qzeros),
        scales_(scales),
        group_(this->info().columns() / scales.shape[0]) {}

  void block(std::uint64_t row, std::uint64_t index, Grid& grid, Code* codes) const override {
    const auto n = std::uint64_t(info().format->block());
    const std::uint64_t first = index * n, group = first / group_;
    grid.d = number_at(scales_, group * info().rows() + row);
    grid.dmin = float(int(nibble(qzeros_, group, row)) - (1 << (kBits - 1)));
    for (std::uint64_t j = 0; j < n; ++j) codes[j] = nibble(qweight_, first + j, row);
  }

 private:
  std::uint32_t nibble(const RawTensor& words, std::uint64_t line, std::uint64_t row) const {
    const std::uint32_t word = word_at(words, line * (info().rows() / 8) + row / 8);
    return word >> (kBits * kNibbleOf[row % 8]) & 15;
  }

  const RawTensor &qweight_, &qzeros_, &scales_;
  std::uint64_t group_;  // columns
};

Status check_settings(const Json& json) {
  NIBBLE_TRY(const auto bits, json_uint_or(json, "bits", kBits));
  if (bits != kBits)
    return fail(ErrorCode::unsupported, "field 'bits': {}, AWQ checkpoints have 4", bits);
  NIBBLE_TRY(const std::string version, json_string_or(json, "version", "gemm"));
  if (version != "gemm" && version != "GEMM")
    return fail(ErrorCode::unsupported, "field 'version': {}, nibble reads gemm", quote(version));
  return {};
}

class AwqPacker final : public Packer {
 public:
  explicit AwqPacker(std::uint64_t group)
      : group_(group), format_(find_format(fmt::format("int4_g{}_zp", group))) {}

  const Format& format() const override { return *format_; }

  Json settings(const std::vector<std::string>& kept) const override {
    return {{"quantization_config",
             {{"quant_method", "awq"},
              {"bits", kBits},
              {"group_size", group_},
              {"zero_point", true},
              {"version", "gemm"},
              {"modules_to_not_convert", kept}}}};
  }

  Result<std::vector<PartInfo>> parts(const TensorInfo& weight) const override {
    const std::uint64_t rows = weight.rows(), columns = weight.columns();
    if (rows % 8 != 0)
      return fail(ErrorCode::unsupported, "{} rows are no whole words of 8 codes", rows);
    const std::string stem = *stem_of(weight.name, ".weight");
    const Dtype* word = find_dtype("I32");
    return std::vector<PartInfo>{{stem + ".qweight", word, {columns, rows / 8}},
                                 {stem + ".qzeros", word, {columns / group_, rows / 8}},
                                 {stem + ".scales", find_dtype("F16"), {columns / group_, rows}}};
  }

  void pack(const TensorInfo& weight, std::span<const std::byte> bytes,
            std::span<const std::span<std::byte>> parts) const override {
    const std::uint64_t rows = weight.rows();
    const auto put = [&](std::size_t part, std::uint64_t line, std::uint64_t row,
                         std::uint32_t value) {
      put_field(parts[part], line * (rows / 8) + row / 8, 1, kNibbleOf[row % 8], kBits, value);
    };
    for_each_block(weight, bytes,
                   [&](std::uint64_t row, std::uint64_t b, const Grid& grid, const Code* codes) {
                     for (std::uint64_t j = 0; j < group_; ++j)
                       put(0, b * group_ + j, row, codes[j]);
                     put(1, b, row, std::uint32_t(int(grid.dmin) + (1 << (kBits - 1))));
                     put_number(parts[2], *find_dtype("F16"), b * rows + row, grid.d);
                   });
  }

 private:
  std::uint64_t group_;
  const Format* format_;
};

class Awq final : public Scheme {
  std::string_view id() const override { return "awq"; }
  std::string_view install() const override { return "pip install transformers gptqmodel"; }

  Result<std::unique_ptr<Packer>> packer(std::string_view text) const override {
    PackingText words(text);
    if (words.type() != "int4")
      return fail(ErrorCode::invalid, "'{}': AWQ checkpoints are int4", text);
    NIBBLE_TRY(const std::uint64_t group, words.take_group(128));
    NIBBLE_DO(words.done());
    if (group == 0) return fail(ErrorCode::invalid, "'{}': AWQ has groups of 32, 64 or 128", text);
    return std::make_unique<AwqPacker>(group);
  }

  Result<Unpacked> unpack(const Json& settings, const RawTensors& tensors) const override {
    NIBBLE_DO_IN("quantization_config", check_settings(settings));
    Unpacked out;
    for (const auto& [name, tensor] : tensors.all()) {
      const auto stem = stem_of(name, ".qweight");
      if (!stem) continue;
      NIBBLE_TRY_IN("tensor " + quote(name), auto made, make(*stem, settings, tensors));
      out.tensors.push_back(std::move(made));
    }
    return out;
  }

  static Result<std::unique_ptr<PackedTensor>> make(const std::string& stem, const Json& settings,
                                                    const RawTensors& tensors) {
    NIBBLE_TRY(const RawTensor* qweight, tensors.get(stem + ".qweight", "I32", {0, 0}));
    const std::uint64_t columns = qweight->shape[0], words = qweight->shape[1];
    NIBBLE_TRY(const RawTensor* scales, tensors.get(stem + ".scales", "number", {0, words * 8}));
    const std::uint64_t groups = scales->shape[0];
    NIBBLE_TRY(const RawTensor* qzeros, tensors.get(stem + ".qzeros", "I32", {groups, words}));
    NIBBLE_TRY(const double group, json_number_or(settings, "group_size", 128));
    if (columns % groups != 0 || (group > 0 && group != double(columns / groups)))
      return fail(ErrorCode::corrupt, "{} columns in {} groups, but field 'group_size' is {}",
                  columns, groups, group);
    NIBBLE_TRY(const Format* format, integer_format({.bits = kBits,
                                                     .columns = columns,
                                                     .group = columns / groups,
                                                     .zero_point = true,
                                                     .scales = scales->dtype}));
    NIBBLE_TRY(TensorInfo info, matrix_info(stem + ".weight", words * 8, columns, *format));
    return std::make_unique<AwqTensor>(
        std::move(info),
        std::vector<std::string>{stem + ".qweight", stem + ".qzeros", stem + ".scales"}, *qweight,
        *qzeros, *scales);
  }
};

}  // namespace

namespace registry {
const Scheme& scheme_awq() {
  static const Awq scheme;
  return scheme;
}
}  // namespace registry
}  // namespace nibble
