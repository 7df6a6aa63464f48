// bitsandbytes checkpoints. 4 bits: the elements of a matrix, row after row, in blocks of
// `blocksize`:
//
//   X.weight                  U8 [n / 2, 1]  codes, the even element of a pair in the high half
//   X.weight.absmax           F32 [blocks]   W = absmax * map[code]
//   X.weight.quant_map        F32 [16]
//   X.weight.quant_state.bitsandbytes__nf4 (or __fp4)  U8: JSON {quant_type, blocksize, shape, ...}
//
// With double quantization absmax is U8, and absmax = nested_map[u8] * nested_absmax[block /
// nested_blocksize] + nested_offset, from X.weight.nested_absmax, X.weight.nested_quant_map F32
// [256] and the JSON. 8 bits (LLM.int8, Dettmers et al. 2022): X.weight I8 [R, C], X.SCB F32 [R], W
// = SCB / 127 * code; inputs that reach llm_int8_threshold are not rounded.
#include <algorithm>
#include <array>
#include <cmath>

#include "base/utf8.h"
#include "container/scheme.h"

namespace nibble {
namespace {

constexpr char kState[] = ".weight.quant_state.bitsandbytes__";

/// The scales of 4-bit blocks.
struct Scales {
  const RawTensor *absmax = nullptr, *nested = nullptr, *map = nullptr;  // nested: of the scales
  std::uint64_t nested_block = 1;
  float offset = 0;

  float at(std::uint64_t block) const {
    if (!nested) return number_at(*absmax, block);
    return number_at(*map, byte_at(*absmax, block)) * number_at(*nested, block / nested_block) +
           offset;
  }
};

class FourBits final : public PackedTensor {
 public:
  FourBits(TensorInfo info, std::vector<std::string> names, const RawTensor& codes,
           const Scales& scales, std::uint64_t block, const std::array<Code, 16>& code_of)
      : PackedTensor(std::move(info), std::move(names)),
        codes_(codes),
        scales_(scales),
        block_(block),
        code_of_(code_of) {}

  void block(std::uint64_t row, std::uint64_t index, Grid& grid, Code* codes) const override {
    const auto n = std::uint64_t(info().format->block());
    const std::uint64_t first = row * info().columns() + index * n;
    grid.d = scales_.at(first / block_);
    for (std::uint64_t i = 0; i < n; i += 2) {
      const std::uint8_t both = byte_at(codes_, (first + i) / 2);
      codes[i] = code_of_[both >> 4];
      codes[i + 1] = code_of_[both & 15];
    }
  }

 private:
  const RawTensor& codes_;
  Scales scales_;
  std::uint64_t block_;
  std::array<Code, 16> code_of_;  // code of the file -> code of the format
};

class EightBits final : public PackedTensor {
 public:
  EightBits(TensorInfo info, std::vector<std::string> names, const RawTensor& codes,
            const RawTensor& scb)
      : PackedTensor(std::move(info), std::move(names)), codes_(codes), scb_(scb) {}

  void block(std::uint64_t row, std::uint64_t index, Grid& grid, Code* codes) const override {
    const auto n = std::uint64_t(info().format->block());
    const std::uint64_t first = row * info().columns() + index * n;
    grid.d = number_at(scb_, row) * (1.0f / 127);
    for (std::uint64_t j = 0; j < n; ++j) codes[j] = byte_at(codes_, first + j) ^ 0x80u;
  }

 private:
  const RawTensor &codes_, &scb_;
};

/// What X.weight.quant_state says.
struct State {
  std::string type;
  std::uint64_t block = 0, rows = 0, columns = 0, nested_block = 1;
  float offset = 0;
};

Result<State> read_state(const RawTensor& tensor) {
  const std::string_view text(reinterpret_cast<const char*>(tensor.data.data()),
                              tensor.data.size());
  NIBBLE_TRY(const Json json, parse_json(text, 4));
  State out;
  NIBBLE_TRY(out.type, json_string(json, "quant_type"));
  NIBBLE_TRY(out.block, json_uint(json, "blocksize"));
  const auto shape = json.find("shape");
  if (shape == json.end() || !shape->is_array() || shape->size() != 2 ||
      !(*shape)[0].is_number_unsigned() || !(*shape)[1].is_number_unsigned())
    return fail(ErrorCode::corrupt, "field 'shape' is not rows and columns");
  out.rows = (*shape)[0].get<std::uint64_t>(), out.columns = (*shape)[1].get<std::uint64_t>();
  NIBBLE_TRY(out.nested_block, json_uint_or(json, "nested_blocksize", 1));
  NIBBLE_TRY(const double offset, json_number_or(json, "nested_offset", 0));
  out.offset = float(offset);
  if (out.nested_block == 0 || !std::isfinite(out.offset))
    return fail(ErrorCode::corrupt, "fields 'nested_blocksize' and 'nested_offset': {}, {}",
                out.nested_block, offset);
  return out;
}

/// Which of the format's levels each code of the file stands for.
Result<std::array<Code, 16>> match_levels(const RawTensor& map, const Format& format) {
  std::array<Code, 16> out{};
  const auto levels = format.level_values();
  for (std::uint64_t c = 0; c < 16; ++c) {
    const float value = number_at(map, c);
    const auto near =
        std::ranges::find_if(levels, [&](float level) { return std::fabs(level - value) < 1e-6f; });
    if (near == levels.end())
      return fail(ErrorCode::unsupported, "tensor {}: {} is no level of {}", quote(map.name), value,
                  format.id());
    out[c] = Code(near - levels.begin());
  }
  return out;
}

class Reader {
 public:
  Reader(const RawTensors& tensors, float threshold) : tensors_(tensors), threshold_(threshold) {}

  Result<std::unique_ptr<PackedTensor>> four_bits(const std::string& stem, const RawTensor& state) {
    const std::string weight = stem + ".weight";
    NIBBLE_TRY_IN("tensor " + quote(state.name), const State s, read_state(state));
    const Format* format = s.type == "nf4" || s.type == "fp4" ? find_format(s.type) : nullptr;
    if (!format)
      return fail(ErrorCode::unsupported,
                  "tensor {}: field 'quant_type': {}, nibble reads nf4 and fp4", quote(state.name),
                  quote(s.type));
    NIBBLE_TRY(TensorInfo info, matrix_info(weight, s.rows, s.columns, *format));
    if (s.block == 0 || s.block % std::uint64_t(format->block()) != 0)
      return fail(ErrorCode::unsupported,
                  "tensor {}: field 'blocksize': {}, nibble reads multiples of {}",
                  quote(state.name), s.block, format->block());
    const std::uint64_t elements = info.elements(), blocks = (elements + s.block - 1) / s.block;
    NIBBLE_TRY(const RawTensor* codes, tensors_.get(weight, "U8", {elements / 2, 1}));
    NIBBLE_TRY(const RawTensor* map, tensors_.get(weight + ".quant_map", "F32", {16}));
    NIBBLE_TRY(const auto code_of, match_levels(*map, *format));
    std::vector<std::string> names = {weight, weight + ".absmax", weight + ".quant_map",
                                      state.name};
    Scales scales{.nested_block = s.nested_block, .offset = s.offset};
    if (tensors_.find(weight + ".nested_absmax")) {
      const std::uint64_t groups = (blocks + s.nested_block - 1) / s.nested_block;
      NIBBLE_TRY(scales.absmax, tensors_.get(weight + ".absmax", "U8", {blocks}));
      NIBBLE_TRY(scales.nested, tensors_.get(weight + ".nested_absmax", "F32", {groups}));
      NIBBLE_TRY(scales.map, tensors_.get(weight + ".nested_quant_map", "F32", {256}));
      names.insert(names.end(), {weight + ".nested_absmax", weight + ".nested_quant_map"});
    } else {
      NIBBLE_TRY(scales.absmax, tensors_.get(weight + ".absmax", "F32", {blocks}));
    }
    return std::make_unique<FourBits>(std::move(info), std::move(names), *codes, scales, s.block,
                                      code_of);
  }

  Result<std::unique_ptr<PackedTensor>> eight_bits(const std::string& stem) {
    const std::string weight = stem + ".weight";
    NIBBLE_TRY(const RawTensor* codes, tensors_.get(weight, "I8", {0, 0}));
    const std::uint64_t rows = codes->shape[0], columns = codes->shape[1];
    NIBBLE_TRY(const RawTensor* scb, tensors_.get(stem + ".SCB", "F32", {rows}));
    NIBBLE_TRY(TensorInfo info, matrix_info(weight, rows, columns, *find_format("int8_row_f32")));
    info.inputs = {.kind = InputRounding::Kind::llm_int8, .threshold = threshold_};
    std::vector<std::string> names = {weight, scb->name};
    if (const std::string layout = stem + ".weight_format"; tensors_.find(layout)) {
      NIBBLE_TRY(const RawTensor* format, tensors_.get(layout, "U8", {}));
      if (byte_at(*format, 0) != 0)
        return fail(ErrorCode::unsupported, "tensor {}: {}, nibble reads 0 (row by row)",
                    quote(layout), byte_at(*format, 0));
      names.push_back(layout);
    }
    return std::make_unique<EightBits>(std::move(info), std::move(names), *codes, *scb);
  }

 private:
  const RawTensors& tensors_;
  float threshold_;
};

/// The 8-bit floats that bitsandbytes keeps scales in: 1, 0, and 7 decades of both signs, each with
/// twice as many values as the one below, in the middle between equal steps.
const std::array<float, 256>& dynamic_map() {
  static const auto map = [] {
    std::array<float, 256> out{};
    std::size_t n = 0;
    for (int decade = 0; decade < 7; ++decade) {
      const int steps = 1 << decade;
      for (int i = 0; i < steps; ++i) {
        const double middle = 0.1 + 0.9 * (i + 0.5) / steps,
                     value = std::pow(10.0, decade - 6) * middle;
        out[n++] = float(value), out[n++] = float(-value);
      }
    }
    out[n++] = 0, out[n++] = 1;
    std::ranges::sort(out);
    return out;
  }();
  return map;
}

std::uint8_t nearest_in(const std::array<float, 256>& map, float x) {
  const auto above = std::ranges::lower_bound(map, x);
  if (above == map.begin()) return 0;
  if (above == map.end()) return 255;
  return std::uint8_t((*above - x < x - *(above - 1) ? above : above - 1) - map.begin());
}

class FourBitPacker final : public Packer {
 public:
  /// `dtype`: what the layers compute in.
  FourBitPacker(std::string_view type, bool nested, const char* dtype)
      : format_(find_format(type)), nested_(nested), dtype_(dtype) {}

  const Format& format() const override { return *format_; }
  std::string_view usual_rounding() const override { return "rtn"; }

  Json settings(const std::vector<std::string>& kept) const override {
    return {{"quantization_config",
             {{"quant_method", "bitsandbytes"},
              {"load_in_4bit", true},
              {"load_in_8bit", false},
              {"bnb_4bit_quant_type", format_->id()},
              {"bnb_4bit_use_double_quant", nested_},
              {"bnb_4bit_compute_dtype", dtype_},
              {"bnb_4bit_quant_storage", "uint8"},
              {"llm_int8_skip_modules", kept}}}};
  }

  Result<std::vector<PartInfo>> parts(const TensorInfo& weight) const override {
    const std::uint64_t blocks = weight.elements() / kBlock,
                        groups = (blocks + kNested - 1) / kNested;
    const Dtype *byte = find_dtype("U8"), *number = find_dtype("F32");
    std::vector<PartInfo> out = {
        {weight.name, byte, {weight.elements() / 2, 1}},
        {weight.name + ".absmax", nested_ ? byte : number, {blocks}},
        {weight.name + ".quant_map", number, {16}},
        {weight.name + ".quant_state.bitsandbytes__" + std::string(format_->id()),
         byte,
         {state(weight, 0).size()}}};
    if (!nested_) return out;
    out.push_back({weight.name + ".nested_absmax", number, {groups}});
    out.push_back({weight.name + ".nested_quant_map", number, {256}});
    return out;
  }

  void pack(const TensorInfo& weight, std::span<const std::byte> bytes,
            std::span<const std::span<std::byte>> parts) const override {
    std::vector<float> absmax;
    std::size_t at = 0;
    for_each_block(
        weight, bytes, [&](std::uint64_t, std::uint64_t, const Grid& grid, const Code* codes) {
          absmax.push_back(grid.d);
          for (std::uint64_t i = 0; i < kBlock; i += 2)
            parts[0][at++] = std::byte(code_in_file(codes[i]) << 4 | code_in_file(codes[i + 1]));
        });
    const Dtype& number = *find_dtype("F32");
    for (Code c = 0; c < 16; ++c)
      put_number(parts[2], number, code_in_file(c), format_->level_values()[c]);
    const float offset = nested_ ? put_nested(absmax, parts) : 0;
    if (!nested_)
      for (std::size_t i = 0; i < absmax.size(); ++i) put_number(parts[1], number, i, absmax[i]);
    const std::string text = state(weight, offset);
    std::ranges::copy(std::as_bytes(std::span(text)), parts[3].begin());
  }

 private:
  static constexpr std::uint64_t kBlock = 64, kNested = 256;

  /// NF4's are in the order of values, FP4's are sign, exponent and mantissa.
  unsigned code_in_file(Code code) const {
    constexpr std::array<unsigned, 8> kFp4 = {0, 1, 6, 7, 4, 5, 2, 3};  // of growing size
    if (format_->id() == "nf4") return code;
    return code < 8 ? 8 | kFp4[7 - code] : kFp4[code - 8];
  }

  /// The scales in 8 bits: what they are above their mean, over the largest of 256.
  static float put_nested(const std::vector<float>& absmax,
                          std::span<const std::span<std::byte>> parts) {
    double sum = 0;
    for (const float x : absmax) sum += x;
    const auto offset = float(sum / double(absmax.size()));
    const Dtype& number = *find_dtype("F32");
    for (std::size_t begin = 0; begin < absmax.size(); begin += kNested) {
      const std::size_t end = std::min(absmax.size(), begin + std::size_t(kNested));
      float largest = 0;
      for (std::size_t i = begin; i < end; ++i)
        largest = std::max(largest, std::fabs(absmax[i] - offset));
      put_number(parts[4], number, begin / kNested, largest);
      for (std::size_t i = begin; i < end; ++i)
        parts[1][i] =
            std::byte(nearest_in(dynamic_map(), largest > 0 ? (absmax[i] - offset) / largest : 0));
    }
    for (std::size_t i = 0; i < 256; ++i) put_number(parts[5], number, i, dynamic_map()[i]);
    return offset;
  }

  /// Of the same length whatever the offset is.
  std::string state(const TensorInfo& weight, float offset) const {
    const std::string nested =
        nested_
            ? fmt::format(
                  R"(, "nested_blocksize": {}, "nested_dtype": "float32", "nested_offset": {: .8e})",
                  kNested, offset)
            : "";
    return fmt::format(
        R"({{"quant_type": "{}", "blocksize": {}, "dtype": "{}", "shape": [{}, {}]{}}})",
        format_->id(), kBlock, dtype_, weight.rows(), weight.columns(), nested);
  }

  const Format* format_;
  bool nested_;
  const char* dtype_;
};

class EightBitPacker final : public Packer {
 public:
  const Format& format() const override { return *find_format("int8_row_f32"); }
  std::string_view usual_rounding() const override { return "rtn"; }

  Json settings(const std::vector<std::string>& kept) const override {
    return {{"quantization_config",
             {{"quant_method", "bitsandbytes"},
              {"load_in_8bit", true},
              {"load_in_4bit", false},
              {"llm_int8_threshold", 6.0},
              {"llm_int8_has_fp16_weight", false},
              {"llm_int8_skip_modules", kept}}}};
  }

  Result<std::vector<PartInfo>> parts(const TensorInfo& weight) const override {
    const std::string stem = *stem_of(weight.name, ".weight");
    return std::vector<PartInfo>{{weight.name, find_dtype("I8"), weight.shape},
                                 {stem + ".SCB", find_dtype("F32"), {weight.rows()}},
                                 {stem + ".weight_format", find_dtype("U8"), {}}};
  }

  void pack(const TensorInfo& weight, std::span<const std::byte> bytes,
            std::span<const std::span<std::byte>> parts) const override {
    const auto n = std::uint64_t(format().block());
    for_each_block(weight, bytes,
                   [&](std::uint64_t row, std::uint64_t b, const Grid& grid, const Code* codes) {
                     for (std::uint64_t j = 0; j < n; ++j)
                       parts[0][row * weight.columns() + b * n + j] = std::byte(codes[j] ^ 0x80u);
                     put_number(parts[1], *find_dtype("F32"), row, grid.d * 127);
                   });
  }
};

class BitsAndBytes final : public Scheme {
  std::string_view id() const override { return "bitsandbytes"; }
  std::string_view name() const override { return "bnb"; }
  std::string_view install() const override { return "pip install transformers bitsandbytes"; }

  Result<std::unique_ptr<Packer>> packer(std::string_view text) const override {
    PackingText words(text);
    const bool four = words.type() == "nf4" || words.type() == "fp4",
               nested = four && words.take("double"), exact = four && words.take("f32");
    NIBBLE_DO(words.done());
    if (four)
      return std::make_unique<FourBitPacker>(words.type(), nested, exact ? "float32" : "bfloat16");
    if (words.type() == "int8") return std::make_unique<EightBitPacker>();
    return fail(ErrorCode::invalid,
                "'{}': bitsandbytes checkpoints are nf4, fp4 (either with -double) or int8", text);
  }

  Result<Unpacked> unpack(const Json& settings, const RawTensors& tensors) const override {
    Unpacked out;
    NIBBLE_TRY_IN("config.json", const double threshold,
                  json_number_or(settings, "llm_int8_threshold", 6));
    if (!(threshold >= 0))
      return fail(ErrorCode::corrupt,
                  "config.json: field 'llm_int8_threshold': {}, expected 0 or more", threshold);
    Reader reader(tensors, float(std::min(threshold, 65504.0)));  // the largest in fp16
    for (const auto& [name, tensor] : tensors.all()) {
      if (const auto state = name.find(kState); state != name.npos && state > 0) {
        NIBBLE_TRY(auto made, reader.four_bits(name.substr(0, state), *tensor));
        out.tensors.push_back(std::move(made));
      } else if (const auto stem = stem_of(name, ".SCB")) {
        NIBBLE_TRY(auto made, reader.eight_bits(*stem));
        out.tensors.push_back(std::move(made));
      }
    }
    return out;
  }
};

}  // namespace

namespace registry {
const Scheme& scheme_bitsandbytes() {
  static const BitsAndBytes scheme;
  return scheme;
}
}  // namespace registry
}  // namespace nibble
