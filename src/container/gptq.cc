// GPTQ checkpoints (AutoGPTQ, GPTQModel, auto-round), C columns and R rows, b bits:
//
//   X.qweight  I32 [C b / 32, R]  codes, a stream of bits down the columns, low bits first
//   X.qzeros   I32 [G, R b / 32]  zero points, a stream along the rows; format "gptq" holds z - 1,
//                                 "gptq_v2" z itself
//   X.scales   F16 [G, R]         W = scale * (code - z)
//   X.g_idx    I32 [C]            the group of each column; with act-order not in their order
#include <algorithm>
#include <cmath>

#include "base/utf8.h"
#include "container/scheme.h"

namespace nibble {
namespace {

struct Settings {
  unsigned bits = 0;
  std::uint64_t group = 0;  // 0: all columns
  bool symmetric = false, act_order = false;
  unsigned added = 1;  // what is added to a stored zero point
};

struct Parts {
  const RawTensor *qweight = nullptr, *qzeros = nullptr, *scales = nullptr;
  std::uint64_t rows = 0, columns = 0, groups = 0, group = 0;  // group: columns
  ColumnOrder order;

  std::uint32_t code(std::uint64_t row, std::uint64_t column, unsigned bits) const {
    return field_at(*qweight, row, rows, column, bits);
  }
  std::uint32_t stored_zero(std::uint64_t group_index, std::uint64_t row, unsigned bits) const {
    return field_at(*qzeros, group_index * qzeros->shape[1], 1, row, bits);
  }
};

class GptqTensor final : public PackedTensor {
 public:
  GptqTensor(TensorInfo info, std::vector<std::string> names, const Settings& settings, Parts parts)
      : PackedTensor(std::move(info), std::move(names)),
        settings_(settings),
        parts_(std::move(parts)) {}

  void block(std::uint64_t row, std::uint64_t index, Grid& grid, Code* codes) const override {
    const auto n = std::uint64_t(info().format->block());
    const std::uint64_t first = index * n, group = first / parts_.group;
    const unsigned bits = settings_.bits;
    grid.d = number_at(*parts_.scales, group * parts_.rows + row);
    grid.dmin =
        float(int(parts_.stored_zero(group, row, bits) + settings_.added) - (1 << (bits - 1)));
    for (std::uint64_t j = 0; j < n; ++j)
      codes[j] = parts_.code(row, parts_.order ? (*parts_.order)[first + j] : first + j, bits);
  }

 private:
  Settings settings_;
  Parts parts_;
};

Result<Settings> read_settings(const Json& json) {
  Settings out;
  NIBBLE_TRY(const auto bits, json_uint(json, "bits"));
  if (bits != 2 && bits != 3 && bits != 4 && bits != 8)
    return fail(ErrorCode::unsupported, "field 'bits': {}, nibble reads 2, 3, 4 and 8", bits);
  out.bits = unsigned(bits);
  NIBBLE_TRY(const double group, json_number_or(json, "group_size", 128));
  if (group != -1 && !(group >= 1 && group <= 1 << 20 && group == std::floor(group)))
    return fail(ErrorCode::corrupt, "field 'group_size': {}", group);
  out.group = group < 0 ? 0 : std::uint64_t(group);
  NIBBLE_TRY(out.symmetric, json_bool_or(json, "sym", true));
  NIBBLE_TRY(out.act_order, json_bool_or(json, "desc_act", false));
  NIBBLE_TRY(const std::string label, json_string_or(json, "checkpoint_format", "gptq"));
  if (label != "gptq" && label != "gptq_v2")
    return fail(ErrorCode::unsupported,
                "field 'checkpoint_format': {}, nibble reads gptq and gptq_v2", quote(label));
  out.added = label == "gptq" ? 1 : 0;
  return out;
}

Result<Parts> find_parts(const std::string& stem, const Settings& settings,
                         const RawTensors& tensors) {
  Parts parts;
  NIBBLE_TRY(parts.qweight, tensors.get(stem + ".qweight", "I32", {0, 0}));
  const std::uint64_t bits = settings.bits, words = parts.qweight->shape[0];
  parts.rows = parts.qweight->shape[1];
  parts.columns = words * 32 / bits;
  if (words * 32 % bits != 0 || parts.rows * bits % 32 != 0)
    return fail(ErrorCode::corrupt, "tensor {}: {} is no matrix of {} bits",
                quote(parts.qweight->name), parts.qweight->describe(), bits);
  parts.group = settings.group == 0 ? parts.columns : std::min(settings.group, parts.columns);
  parts.groups = (parts.columns + parts.group - 1) / parts.group;
  NIBBLE_TRY(parts.scales, tensors.get(stem + ".scales", "number", {parts.groups, parts.rows}));
  NIBBLE_TRY(parts.qzeros,
             tensors.get(stem + ".qzeros", "I32", {parts.groups, parts.rows * bits / 32}));
  if (settings.act_order || tensors.find(stem + ".g_idx")) {  // else columns are in their order
    NIBBLE_TRY(const RawTensor* g_idx, tensors.get(stem + ".g_idx", "I32", {parts.columns}));
    NIBBLE_TRY(parts.order, order_of_groups(*g_idx, parts.group));
  }
  return parts;
}

/// What must be added to the stored zero points, judged by the values of some rows: codes scatter
/// around the zero point. With symmetric grids the zero point is known.
class ZeroJudge {
 public:
  ZeroJudge(const Settings& settings) : settings_(settings) {}

  void look(const Parts& parts) {
    const std::uint64_t step = std::max<std::uint64_t>(1, parts.rows / 16);
    for (std::uint64_t row = 0; row < parts.rows; row += step)
      for (std::uint64_t g = 0; g < parts.groups; ++g) {
        const std::uint32_t zero = parts.stored_zero(g, row, settings_.bits);
        middle_ += zero == 1u << (settings_.bits - 1);
        below_ += zero + 1 == 1u << (settings_.bits - 1);
        ++zeros_;
        const std::uint64_t begin = g * parts.group;
        const std::uint64_t end = std::min(parts.columns, begin + parts.group);
        double sum = 0;
        for (std::uint64_t j = begin; j < end; ++j) {
          const std::uint64_t column = parts.order ? (*parts.order)[j] : j;
          sum += double(parts.code(row, column, settings_.bits)) - zero;
        }
        const double excess = sum / double(end - begin);
        excess_ += excess, squares_ += excess * excess;
      }
  }

  /// 0 or 1; the label's own where the values do not speak against it.
  unsigned added() const {
    if (zeros_ == 0) return settings_.added;
    if (settings_.symmetric && middle_ == zeros_) return 0;
    if (settings_.symmetric && below_ == zeros_) return 1;
    const double n = double(zeros_), excess = excess_ / n;  // codes are above what is stored
    const double error = std::sqrt(std::max(0.0, squares_ / n - excess * excess) / n);
    const double own = std::fabs(excess - settings_.added);
    const double other = std::fabs(excess - (1.0 - settings_.added));
    return other + 0.5 < own && 4 * error < 0.5 ? 1 - settings_.added : settings_.added;
  }

 private:
  const Settings& settings_;
  std::uint64_t zeros_ = 0, middle_ = 0, below_ = 0;
  double excess_ = 0, squares_ = 0;  // of groups
};

/// Whether there are others than the middle of the codes. Error: one beyond the codes of a byte.
Result<bool> has_zero_points(const Parts& parts, const Settings& settings) {
  bool others = false;
  for (std::uint64_t g = 0; g < parts.groups; ++g)
    for (std::uint64_t row = 0; row < parts.rows; ++row) {
      const std::uint32_t zero = parts.stored_zero(g, row, settings.bits) + settings.added;
      others |= zero != 1u << (settings.bits - 1);
      if (zero > 255)
        return fail(ErrorCode::unsupported, "zero point {} of group {}, row {}", zero, g, row);
    }
  return others;
}

class GptqPacker final : public Packer {
 public:
  struct Options {
    bool symmetric, version_two, act_order;
  };

  GptqPacker(unsigned bits, std::uint64_t group, const Options& options)
      : bits_(bits), group_(group), options_(options) {
    format_ =
        find_format(fmt::format("int{}_{}{}", bits, group > 0 ? fmt::format("g{}", group) : "row",
                                options.symmetric ? "" : "_zp"));
  }

  const Format& format() const override { return *format_; }
  bool act_order() const override { return options_.act_order; }

  Json settings(const std::vector<std::string>& kept) const override {
    const char* label = options_.version_two ? "gptq_v2" : "gptq";
    Json dynamic = Json::object();  // patterns of modules, "-:" leaves them alone
    for (const std::string& module : kept)
      if (module != "lm_head") dynamic["-:^" + module + "$"] = Json::object();
    return {{"quantization_config",
             {{"quant_method", "gptq"},
              {"dynamic", dynamic},
              {"bits", bits_},
              {"group_size", group_ > 0 ? std::int64_t(group_) : -1},
              {"sym", options_.symmetric},
              {"desc_act", options_.act_order},
              {"checkpoint_format", label},
              {"pack_dtype", "int32"},
              {"lm_head", false}}}};
  }

  Result<std::vector<PartInfo>> parts(const TensorInfo& weight) const override {
    const std::uint64_t rows = weight.rows(), columns = weight.columns();
    if (rows * bits_ % 32 != 0 || columns * bits_ % 32 != 0)
      return fail(ErrorCode::unsupported, "{} x {} codes of {} bits are no whole words", rows,
                  columns, bits_);
    const std::string stem = *stem_of(weight.name, ".weight");
    const Dtype *word = find_dtype("I32"), *half = find_dtype("F16");
    const std::uint64_t groups = group_ > 0 ? columns / group_ : 1;
    return std::vector<PartInfo>{{stem + ".qweight", word, {columns * bits_ / 32, rows}},
                                 {stem + ".qzeros", word, {groups, rows * bits_ / 32}},
                                 {stem + ".scales", half, {groups, rows}},
                                 {stem + ".g_idx", word, {columns}}};
  }

  void pack(const TensorInfo& weight, std::span<const std::byte> bytes,
            std::span<const std::span<std::byte>> parts) const override {
    const std::uint64_t rows = weight.rows(), columns = weight.columns();
    const std::uint64_t group = group_ > 0 ? group_ : columns;
    const auto n = std::uint64_t(format_->block());
    for_each_block(weight, bytes,
                   [&](std::uint64_t row, std::uint64_t b, const Grid& grid, const Code* codes) {
                     for (std::uint64_t j = 0; j < n; ++j)
                       put_field(parts[0], row, rows, column(weight, b * n + j), bits_, codes[j]);
                     if (b * n % group != 0) return;
                     const std::uint64_t g = b * n / group;
                     const auto zero = std::uint32_t(int(grid.dmin) + (1 << (bits_ - 1)));
                     put_field(parts[1], g * rows * bits_ / 32, 1, row, bits_,
                               zero - (options_.version_two ? 0 : 1));
                     put_number(parts[2], *find_dtype("F16"), g * rows + row, grid.d);
                   });
    for (std::uint64_t j = 0; j < columns; ++j)
      put_field(parts[3], 0, 1, column(weight, j), 32, std::uint32_t(j / group));
  }

 private:
  static std::uint64_t column(const TensorInfo& weight, std::uint64_t stored) {
    return weight.order ? (*weight.order)[stored] : stored;
  }

  unsigned bits_;
  std::uint64_t group_;  // 0: the whole row
  Options options_;
  const Format* format_;
};

class Gptq final : public Scheme {
  std::string_view id() const override { return "gptq"; }
  std::string_view install() const override { return "pip install transformers optimum gptqmodel"; }

  Result<std::unique_ptr<Packer>> packer(std::string_view text) const override {
    PackingText words(text);
    unsigned bits = 0;
    for (const unsigned each : {2u, 3u, 4u, 8u})
      if (words.type() == fmt::format("int{}", each)) bits = each;
    if (bits == 0)
      return fail(ErrorCode::invalid, "'{}': GPTQ checkpoints are int2, int3, int4 or int8", text);
    NIBBLE_TRY(const std::uint64_t group, words.take_group(128));
    // Version 1 has no zero point 0.
    GptqPacker::Options options{};
    options.symmetric = !words.take("asym");
    options.version_two = words.take("v2") || !options.symmetric;
    options.act_order = words.take("actorder");
    words.take("sym");
    NIBBLE_DO(words.done());
    return std::make_unique<GptqPacker>(bits, group, options);
  }

  Result<Unpacked> unpack(const Json& json, const RawTensors& tensors) const override {
    NIBBLE_TRY_IN("quantization_config", Settings settings, read_settings(json));
    std::vector<std::pair<std::string, Parts>> found;
    ZeroJudge judge(settings);
    for (const auto& [name, tensor] : tensors.all()) {
      const auto stem = stem_of(name, ".qweight");
      if (!stem) continue;
      NIBBLE_TRY(Parts parts, find_parts(*stem, settings, tensors));
      judge.look(parts);
      found.emplace_back(*stem, std::move(parts));
    }
    Unpacked out;
    if (judge.added() != settings.added)
      out.notes.push_back(
          fmt::format("zero points are labelled {}, but their values are those of {}: "
                      "read as such",
                      settings.added ? "gptq" : "gptq_v2", settings.added ? "gptq_v2" : "gptq"));
    settings.added = judge.added();
    for (auto& [stem, parts] : found) {
      NIBBLE_TRY_IN("tensor " + quote(stem + ".qweight"), auto tensor,
                    make(stem, settings, std::move(parts), tensors));
      out.tensors.push_back(std::move(tensor));
    }
    return out;
  }

  static Result<std::unique_ptr<PackedTensor>> make(const std::string& stem,
                                                    const Settings& settings, Parts parts,
                                                    const RawTensors& tensors) {
    NIBBLE_TRY(const bool zero_point, has_zero_points(parts, settings));
    NIBBLE_TRY(const Format* format, integer_format({.bits = settings.bits,
                                                     .columns = parts.columns,
                                                     .group = parts.group,
                                                     .zero_point = zero_point,
                                                     .scales = parts.scales->dtype}));
    NIBBLE_TRY(TensorInfo info, matrix_info(stem + ".weight", parts.rows, parts.columns, *format));
    info.order = parts.order;
    std::vector<std::string> names;
    for (const char* part : {".qweight", ".qzeros", ".scales", ".g_idx"})
      if (tensors.find(stem + part)) names.push_back(stem + part);
    return std::make_unique<GptqTensor>(std::move(info), std::move(names), settings,
                                        std::move(parts));
  }
};

}  // namespace

namespace registry {
const Scheme& scheme_gptq() {
  static const Gptq scheme;
  return scheme;
}
}  // namespace registry
}  // namespace nibble
