// Quantized Hugging Face checkpoints: matrices laid out bit by bit as each scheme says, and what
// nibble reads.
#include "container/scheme.h"

#include <gmock/gmock.h>

#include <cmath>
#include <random>

#include "base/half.h"
#include "format/bits.h"
#include "support/checkpoints.h"
#include "support/temp_dir.h"

namespace nibble {
namespace {

using ::testing::HasSubstr;

struct Part {
  std::string dtype;
  std::vector<std::uint64_t> shape;
  std::string bytes;
};

template <class T>
Part part(const std::string& dtype, std::vector<std::uint64_t> shape,
          const std::vector<T>& values) {
  return {dtype, std::move(shape),
          std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T))};
}

/// A stream of fields, bit by bit; its words lie `stride` apart.
void put(std::vector<std::uint32_t>& words, std::size_t begin, std::size_t stride,
         std::size_t index, unsigned bits, unsigned value) {
  for (unsigned b = 0; b < bits; ++b)
    if (value >> b & 1) {
      const std::size_t at = index * bits + b;
      words[begin + at / 32 * stride] |= 1u << (at % 32);
    }
}

std::uint16_t half(float x) { return f32_to_fp16(x); }
std::vector<std::uint16_t> halves(const std::vector<float>& values) {
  std::vector<std::uint16_t> out;
  for (const float x : values) out.push_back(half(x));
  return out;
}

/// A matrix of random codes with random scales and zero points, and its values.
struct Truth {
  std::size_t rows, columns, group;
  unsigned bits;
  std::vector<unsigned> code, zero;  // [rows][columns], [rows][groups]
  std::vector<float> scale;          // [rows][groups], fp16 values
  std::vector<std::size_t> group_of;

  Truth(std::size_t r, std::size_t c, std::size_t g, unsigned b, bool symmetric = false)
      : rows(r), columns(c), group(g), bits(b), code(r * c), zero(r * (c / g)), scale(zero.size()) {
    std::mt19937 random(bits * 7 + unsigned(g));
    for (unsigned& x : code) x = unsigned(random()) & ((1u << bits) - 1);
    for (unsigned& z : zero) {
      z = symmetric ? 1u << (bits - 1) : 1 + unsigned(random()) % ((1u << bits) - 1);
    }
    for (float& s : scale) s = fp16_to_f32(half(0.001f + 0.01f * float(random() % 1000) / 1000));
    for (std::size_t j = 0; j < columns; ++j) group_of.push_back(j / group);
  }

  std::size_t groups() const { return columns / group; }
  float value(std::size_t r, std::size_t j) const {
    const std::size_t g = r * groups() + group_of[j];
    return scale[g] * float(int(code[r * columns + j]) - int(zero[g]));
  }
};

class SchemeTest : public ::testing::Test {
 protected:
  void write(const std::string& settings, const std::string& field = "quantization_config") {
    std::string header, data;
    for (const auto& [name, part] : parts_) {
      std::string shape;
      for (const std::uint64_t n : part.shape)
        shape += fmt::format("{}{}", shape.empty() ? "" : ",", n);
      header += (header.empty() ? "{\"" : ",\"") + name + "\":{\"dtype\":\"" + part.dtype +
                "\",\"shape\":[" + shape + "],\"data_offsets\":[" + std::to_string(data.size()) +
                "," + std::to_string(data.size() + part.bytes.size()) + "]}";
      data += part.bytes;
    }
    write_file(dir_ / "model.safetensors", safetensors_file(header + "}", data));
    write_file(dir_ / "config.json", "{\"" + field + "\":" + settings + "}");
  }

  /// Writes, reads, and checks that matrix "x" has the values of `truth`.
  void expect_values(const std::string& settings, const Truth& truth, const std::string& format,
                     const std::string& field = "quantization_config") {
    expect_values(settings, truth.rows, truth.columns, format, field,
                  [&](std::size_t r, std::size_t j) { return truth.value(r, j); });
  }
  template <class Value>
  void expect_values(const std::string& settings, std::size_t rows, std::size_t columns,
                     const std::string& format, const std::string& field, Value value) {
    write(settings, field);
    auto source = open_source(dir_.path());
    ASSERT_TRUE(source) << source.error().message();
    notes_ = (*source)->notes();
    ASSERT_EQ((*source)->tensors().size(), 1u);
    const TensorInfo& info = (*source)->tensors()[0];
    inputs_ = info.inputs;
    EXPECT_EQ(info.name, "x.weight");
    EXPECT_EQ(info.shape, (std::vector<std::uint64_t>{rows, columns}));
    ASSERT_EQ(info.format->id(), format);
    std::vector<std::byte> bytes(info.bytes);
    (*source)->read_rows(0, 0, rows, bytes.data());
    std::vector<float> values(rows * columns);
    info.format->decode(bytes.data(), values.size() / std::size_t(info.format->block()),
                        values.data());
    for (std::size_t r = 0; r < rows; ++r)
      for (std::size_t j = 0; j < columns; ++j)
        ASSERT_EQ(values[r * columns + j], value(r, info.order ? (*info.order)[j] : j))
            << r << ", " << j;
  }

  void expect_error(const std::string& settings, const std::string& reason) {
    write(settings);
    const auto source = open_source(dir_.path());
    ASSERT_FALSE(source) << reason;
    EXPECT_THAT(source.error().message(), HasSubstr(reason));
    EXPECT_EQ(source.error().message().find('\n'), std::string::npos);
  }

  void put_gptq(const Truth& t, unsigned subtracted) {
    std::vector<std::uint32_t> codes(t.columns * t.bits / 32 * t.rows);
    std::vector<std::uint32_t> zeros(t.groups() * t.rows * t.bits / 32);
    std::vector<float> scales(t.groups() * t.rows);
    for (std::size_t r = 0; r < t.rows; ++r) {
      for (std::size_t j = 0; j < t.columns; ++j)
        put(codes, r, t.rows, j, t.bits, t.code[r * t.columns + j]);
      for (std::size_t g = 0; g < t.groups(); ++g) {
        put(zeros, g * t.rows * t.bits / 32, 1, r, t.bits, t.zero[r * t.groups() + g] - subtracted);
        scales[g * t.rows + r] = t.scale[r * t.groups() + g];
      }
    }
    std::vector<std::int32_t> index(t.group_of.begin(), t.group_of.end());
    parts_["x.qweight"] = part("I32", {t.columns * t.bits / 32, t.rows}, codes);
    parts_["x.qzeros"] = part("I32", {t.groups(), t.rows * t.bits / 32}, zeros);
    parts_["x.scales"] = part("F16", {t.groups(), t.rows}, halves(scales));
    parts_["x.g_idx"] = part("I32", {t.columns}, index);
  }

  static std::string gptq(unsigned bits, int group, bool symmetric, const char* label = "gptq",
                          const char* more = "") {
    return fmt::format(
        R"({{"quant_method":"gptq","bits":{},"group_size":{},"sym":{},"checkpoint_format":"{}"{}}})",
        bits, group, symmetric, label, more);
  }

  TempDir dir_;
  std::map<std::string, Part> parts_;
  std::vector<std::string> notes_;
  InputRounding inputs_;
};

TEST_F(SchemeTest, GptqOfAllWidths) {
  for (const unsigned bits : {2u, 3u, 4u, 8u})
    for (const bool symmetric : {true, false}) {
      SCOPED_TRACE(testing::Message() << bits << " bits, " << (symmetric ? "sym" : "asym"));
      const Truth truth(32, 128, 32, bits, symmetric);
      put_gptq(truth, 1);
      expect_values(gptq(bits, 32, symmetric), truth,
                    fmt::format("int{}_g32{}", bits, symmetric ? "" : "_zp"));
      EXPECT_TRUE(notes_.empty());
    }
}

TEST_F(SchemeTest, GptqVersionTwoAndOneGroup) {
  const Truth two(32, 128, 64, 4);
  put_gptq(two, 0);
  expect_values(gptq(4, 64, false, "gptq_v2"), two, "int4_g64_zp");
  EXPECT_TRUE(notes_.empty());
  const Truth row(32, 96, 96, 4, true);
  put_gptq(row, 1);
  expect_values(gptq(4, -1, true), row, "int4_row");
}

TEST_F(SchemeTest, GptqWideGroupsAreCut) {
  const Truth truth(8, 512, 256, 4, true);
  put_gptq(truth, 1);
  expect_values(gptq(4, 256, true), truth, "int4_g128");
}

TEST_F(SchemeTest, GptqActOrderKeepsEachColumnInItsGroup) {
  Truth truth(8, 128, 32, 4, true);
  std::mt19937 random(3);
  std::shuffle(truth.group_of.begin(), truth.group_of.end(), random);
  put_gptq(truth, 1);
  expect_values(gptq(4, 32, true), truth, "int4_g32");
  parts_.erase("x.g_idx");  // without which nobody knows
  expect_error(gptq(4, 32, true, "gptq", R"(,"desc_act":true)"), "tensor 'x.g_idx' is missing");
}

TEST_F(SchemeTest, GptqNeedsNoGroupsOfColumnsInTheirOrder) {
  const Truth truth(8, 128, 32, 4, true);
  put_gptq(truth, 1);
  parts_.erase("x.g_idx");
  expect_values(gptq(4, 32, true, "gptq", R"(,"desc_act":false)"), truth, "int4_g32");
}

// What config.json says is about all tensors: others beside them are of another scheme, or of none.
TEST_F(SchemeTest, ConfigsThatAreOfOtherTensors) {
  const Truth truth(32, 128, 32, 4, true);
  put_gptq(truth, 1);
  const std::string bnb = R"({"quant_method":"bitsandbytes"})";
  expect_error(R"({"quant_method":"awq","bits":4,"group_size":32})",
               "'x.scales' is F16 [4, 32], expected number [0, 256]");
  expect_error(bnb, "config.json says that it is quantized (bitsandbytes), but no tensor is");
  parts_["y.SCB"] = part("F32", {1}, std::vector<float>{1});
  parts_["y.weight"] = part("I8", {1, 32}, std::vector<std::int8_t>(32, 1));
  expect_error(gptq(4, 32, true), "tensor 'y.weight': has dtype 'I8'");
  expect_error(bnb, "tensor 'x.g_idx': has dtype 'I32'");
  expect_error("null", "tensor 'x.g_idx': has dtype 'I32'");
}

// Labels are often wrong: symmetric grids have one zero point, of others the codes lie around it.
TEST_F(SchemeTest, GptqLabelsAreCheckedAgainstTheValues) {
  const Truth symmetric(32, 128, 32, 4, true);
  put_gptq(symmetric, 0);
  expect_values(gptq(4, 32, true, "gptq"), symmetric, "int4_g32");
  ASSERT_EQ(notes_.size(), 1u);
  EXPECT_THAT(notes_[0], HasSubstr("labelled gptq"));
  put_gptq(symmetric, 1);
  expect_values(gptq(4, 32, true, "gptq_v2"), symmetric, "int4_g32");
  EXPECT_EQ(notes_.size(), 1u);

  Truth other(32, 1024, 128, 4);
  for (std::size_t i = 0; i < other.code.size(); ++i) {  // codes around their zero points
    const int zero = int(other.zero[i / other.columns * other.groups() + i % other.columns / 128]);
    other.code[i] = unsigned(std::clamp(zero + int(i * 7 % 5) - 2, 0, 15));
  }
  for (unsigned& zero : other.zero) zero = std::clamp(zero, 3u, 12u);
  put_gptq(other, 0);
  expect_values(gptq(4, 128, false, "gptq"), other, "int4_g128_zp");
  EXPECT_EQ(notes_.size(), 1u);
  put_gptq(other, 1);
  expect_values(gptq(4, 128, false, "gptq"), other, "int4_g128_zp");
  EXPECT_TRUE(notes_.empty());
}

TEST_F(SchemeTest, GptqRefusesWhatContradictsItself) {
  const Truth truth(32, 128, 32, 4, true);
  put_gptq(truth, 1);
  const auto good = parts_;
  expect_error(gptq(5, 32, true), "field 'bits': 5");
  expect_error(gptq(8, 32, true), "'x.scales' is F16 [4, 32], expected number [2, 32]");
  expect_error(gptq(4, 48, true), "'x.scales' is F16 [4, 32], expected number [3, 32]");
  expect_error(gptq(4, 0, true), "field 'group_size': 0");
  expect_error(gptq(4, 32, true, "marlin"), "field 'checkpoint_format': 'marlin'");
  expect_error(R"({"quant_method":"gptq"})", "'bits' is missing");
  expect_error(R"({"quant_method":"hqq"})", "quant_method 'hqq'; nibble reads: gptq awq");
  expect_error(R"({"bits":4})", "'quant_method' is missing");
  parts_.erase("x.scales");
  expect_error(gptq(4, 32, true), "tensor 'x.scales' is missing");
  Truth wide(32, 128, 32, 8);
  wide.zero[5] = 256;
  put_gptq(wide, 1);
  expect_error(gptq(8, 32, false), "zero point 256 of group 1, row 1");
  parts_ = good;
  std::vector<std::int32_t> wild(128, 0);
  wild[7] = 4;
  parts_["x.g_idx"] = part("I32", {128}, wild);
  expect_error(gptq(4, 32, true), "column 7 is of group 4, there are 4");
  wild[7] = 1;
  parts_["x.g_idx"] = part("I32", {128}, wild);
  expect_error(gptq(4, 32, true), "columns are of group 0, expected 32");
  parts_ = good;
  parts_["y.qweight"] = part("I32", {1, 1}, std::vector<std::int32_t>{1});
  expect_error(gptq(4, 32, true), "tensor 'y.qweight'");
  parts_ = good;
  parts_["y"] = part("I64", {1}, std::vector<std::int64_t>{1});
  expect_error(gptq(4, 32, true), "tensor 'y': has dtype 'I64'");
}

TEST_F(SchemeTest, AwqOrdersRowsOfAWord) {
  const Truth t(32, 128, 64, 4);
  constexpr unsigned row_of[8] = {0, 2, 4, 6, 1, 3, 5, 7};  // of nibble i
  std::vector<std::uint32_t> codes(t.columns * t.rows / 8), zeros(t.groups() * t.rows / 8);
  std::vector<float> scales(t.groups() * t.rows);
  for (std::size_t word = 0; word < t.rows / 8; ++word)
    for (unsigned i = 0; i < 8; ++i) {
      const std::size_t r = word * 8 + row_of[i];
      for (std::size_t j = 0; j < t.columns; ++j)
        codes[j * t.rows / 8 + word] |= t.code[r * t.columns + j] << (4 * i);
      for (std::size_t g = 0; g < t.groups(); ++g) {
        zeros[g * t.rows / 8 + word] |= t.zero[r * t.groups() + g] << (4 * i);
        scales[g * t.rows + r] = t.scale[r * t.groups() + g];
      }
    }
  parts_["x.qweight"] = part("I32", {t.columns, t.rows / 8}, codes);
  parts_["x.qzeros"] = part("I32", {t.groups(), t.rows / 8}, zeros);
  parts_["x.scales"] = part("F16", {t.groups(), t.rows}, halves(scales));
  const std::string settings =
      R"({"quant_method":"awq","bits":4,"group_size":64,"version":"gemm"})";
  expect_values(settings, t, "int4_g64_zp");
  expect_error(R"({"quant_method":"awq","bits":4,"group_size":32})", "field 'group_size' is 32");
  expect_error(R"({"quant_method":"awq","version":"gemv"})", "field 'version': 'gemv'");
  parts_.erase("x.qzeros");
  expect_error(settings, "tensor 'x.qzeros' is missing");
}

class BnbTest : public SchemeTest {
 protected:
  static constexpr std::size_t kRows = 6, kColumns = 192, kBlocks = kRows * kColumns / 64;

  void put_codes(const char* type, const std::string& nested) {
    const Format& format = *find_format(type);
    std::mt19937 random(1);
    std::vector<std::uint8_t> codes(kRows * kColumns / 2);
    for (std::uint8_t& c : codes) c = std::uint8_t(random());
    // Codes of the file are in an order of their own.
    for (unsigned c = 0; c < 16; ++c) map_.push_back(format.level_values()[c * 7 % 16]);
    for (std::size_t i = 0; i < codes.size(); ++i)
      for (const unsigned c : {codes[i] >> 4, codes[i] & 15}) levels_.push_back(map_[c]);
    parts_["x.weight"] = part("U8", {codes.size(), 1}, codes);
    parts_["x.weight.quant_map"] = part("F32", {16}, map_);
    const std::string state =
        fmt::format(R"({{"quant_type":"{}","blocksize":64,"dtype":"bfloat16","shape":[{},{}]{}}})",
                    type, kRows, kColumns, nested);
    parts_[std::string("x.weight.quant_state.bitsandbytes__") + type] =
        part("U8", {state.size()}, std::vector<char>(state.begin(), state.end()));
  }

  std::vector<float> map_, levels_;
  const std::string settings_ = R"({"quant_method":"bitsandbytes"})";
};

TEST_F(BnbTest, FourBits) {
  put_codes("nf4", "");
  std::vector<float> absmax;
  for (std::size_t i = 0; i < kBlocks; ++i) absmax.push_back(0.1f + 0.01f * float(i));
  parts_["x.weight.absmax"] = part("F32", {kBlocks}, absmax);
  expect_values(settings_, kRows, kColumns, "nf4", "quantization_config",
                [&](std::size_t r, std::size_t j) {
                  const std::size_t i = r * kColumns + j;
                  return absmax[i / 64] * levels_[i];
                });
  map_[3] = 0.123f;
  parts_["x.weight.quant_map"] = part("F32", {16}, map_);
  expect_error(settings_, "0.123 is no level of nf4");
  parts_.erase("x.weight.absmax");
  map_[3] = map_[4];
  parts_["x.weight.quant_map"] = part("F32", {16}, map_);
  expect_error(settings_, "tensor 'x.weight.absmax' is missing");
}

TEST_F(BnbTest, DoubleQuantization) {
  put_codes("fp4", R"(,"nested_blocksize":4,"nested_offset":0.25)");
  std::vector<std::uint8_t> absmax;
  std::vector<float> nested, map;
  for (std::size_t i = 0; i < kBlocks; ++i) absmax.push_back(std::uint8_t(i * 37));
  for (std::size_t i = 0; i < (kBlocks + 3) / 4; ++i) nested.push_back(0.5f + float(i));
  for (int i = 0; i < 256; ++i) map.push_back(float(i - 128) / 128);
  parts_["x.weight.absmax"] = part("U8", {kBlocks}, absmax);
  parts_["x.weight.nested_absmax"] = part("F32", {nested.size()}, nested);
  parts_["x.weight.nested_quant_map"] = part("F32", {256}, map);
  expect_values(settings_, kRows, kColumns, "fp4", "quantization_config",
                [&](std::size_t r, std::size_t j) {
                  const std::size_t i = r * kColumns + j, block = i / 64;
                  return (map[absmax[block]] * nested[block / 4] + 0.25f) * levels_[i];
                });
}

TEST_F(BnbTest, EightBits) {
  std::vector<std::int8_t> codes(kRows * kColumns);
  for (std::size_t i = 0; i < codes.size(); ++i) codes[i] = std::int8_t(i * 31);
  std::vector<float> scb;
  for (std::size_t r = 0; r < kRows; ++r) scb.push_back(0.3f + float(r));
  parts_["x.weight"] = part("I8", {kRows, kColumns}, codes);
  parts_["x.SCB"] = part("F32", {kRows}, scb);
  parts_["x.weight_format"] = part("U8", {}, std::vector<std::uint8_t>{0});
  expect_values(settings_, kRows, kColumns, "int8_row_f32", "quantization_config",
                [&](std::size_t r, std::size_t j) {
                  return scb[r] * (1.0f / 127) * float(codes[r * kColumns + j]);
                });
  EXPECT_EQ(inputs_, (InputRounding{.kind = InputRounding::Kind::llm_int8, .threshold = 6}));
  const auto threshold = [](const char* value) {
    return fmt::format(R"({{"quant_method":"bitsandbytes","llm_int8_threshold":{}}})", value);
  };
  write(threshold("2.5"));
  EXPECT_EQ((*open_source(dir_.path()))->tensors()[0].inputs.threshold, 2.5f);
  for (const char* bad : {"-1", "-1e300", "\"6\"", "[6]"})
    expect_error(threshold(bad), "config.json: field 'llm_int8_threshold'");
  parts_["x.weight_format"] = part("U8", {}, std::vector<std::uint8_t>{3});
  expect_error(settings_, "'x.weight_format': 3");
}

class CompressedTest : public SchemeTest {
 protected:
  const std::string settings_ = R"({"quant_method":"compressed-tensors","format":"x"})";

  void put_integers(const Truth& t, bool zeros) {
    std::vector<std::uint32_t> codes(t.rows * (t.columns * t.bits / 32)),
        points(t.rows * t.bits / 32 * t.groups());
    for (std::size_t r = 0; r < t.rows; ++r) {
      for (std::size_t j = 0; j < t.columns; ++j)
        put(codes, r * (t.columns * t.bits / 32), 1, j, t.bits, t.code[r * t.columns + j]);
      for (std::size_t g = 0; g < t.groups(); ++g)
        put(points, g, t.groups(), r, t.bits, t.zero[r * t.groups() + g]);
    }
    parts_["x.weight_packed"] = part("I32", {t.rows, t.columns * t.bits / 32}, codes);
    parts_["x.weight_scale"] = part("F16", {t.rows, t.groups()}, halves(t.scale));
    parts_["x.weight_shape"] =
        part("I64", {2}, std::vector<std::int64_t>{std::int64_t(t.rows), std::int64_t(t.columns)});
    if (zeros)
      parts_["x.weight_zero_point"] = part("I32", {t.rows * t.bits / 32, t.groups()}, points);
  }
};

TEST_F(CompressedTest, Integers) {
  const Truth symmetric(32, 128, 64, 4, true), zeros(32, 128, 32, 4), row(8, 96, 96, 8, true);
  put_integers(symmetric, false);
  expect_values(settings_, symmetric, "int4_g64");
  put_integers(zeros, true);
  expect_values(settings_, zeros, "int4_g32_zp");
  parts_.clear();
  put_integers(row, false);
  expect_values(settings_, row, "int8_row");
  parts_["x.weight_shape"] = part("I64", {2}, std::vector<std::int64_t>{8, 97});
  expect_error(settings_, "says 8 x 97");
  parts_.erase("x.weight_shape");
  expect_error(settings_, "tensor 'x.weight_shape' is missing");
}

TEST_F(CompressedTest, ActOrderKeepsEachColumnInItsGroup) {
  Truth truth(32, 128, 32, 4);
  std::mt19937 random(3);
  std::shuffle(truth.group_of.begin(), truth.group_of.end(), random);
  put_integers(truth, true);
  std::vector<std::int32_t> index(truth.group_of.begin(), truth.group_of.end());
  parts_["x.weight_g_idx"] = part("I32", {128}, index);
  const auto settings = [](const char* order) {
    return fmt::format(
        R"({{"quant_method":"compressed-tensors","config_groups":{{"g":{{"targets":["Linear"],)"
        R"("weights":{{"type":"int","num_bits":4,"actorder":{}}}}}}}}})",
        order);
  };
  expect_values(settings("\"group\""), truth, "int4_g32_zp");
  index[7] = 4;
  parts_["x.weight_g_idx"] = part("I32", {128}, index);
  expect_error(settings("\"group\""), "column 7 is of group 4, there are 4");
  parts_.erase("x.weight_g_idx");
  expect_error(settings("\"group\""), "tensor 'x.weight_g_idx' is missing");
  expect_error(settings("true"), "tensor 'x.weight_g_idx' is missing");
  expect_error(settings("7"), "field 'actorder' is number");
  const Truth own(32, 128, 32, 4);
  put_integers(own, true);
  for (const char* order : {"null", "false", "\"weight\"", "\"static\""})
    expect_values(settings(order), own, "int4_g32_zp");
}

TEST_F(CompressedTest, BytesAndFloats) {
  constexpr std::size_t kRows = 4, kColumns = 64;
  std::vector<std::uint8_t> codes(kRows * kColumns);
  for (std::size_t i = 0; i < codes.size(); ++i) {
    codes[i] = std::uint8_t(i);
    if ((codes[i] & 127) == 127) codes[i] = 1;  // no number
  }
  const std::vector<float> scales = {0.5f, 2, 0.25f, 1};
  parts_["x.weight"] = part("F8_E4M3", {kRows, kColumns}, codes);
  parts_["x.weight_scale"] = part("F32", {kRows, 1}, scales);
  parts_["x.input_scale"] = part("F32", {1}, std::vector<float>{3});
  const auto fp8 = [](std::uint8_t b) {
    const int e = b >> 3 & 15, m = b & 7;
    return (b & 128 ? -1.0f : 1.0f) *
           (e ? std::ldexp(1 + float(m) / 8, e - 7) : std::ldexp(float(m), -9));
  };
  expect_values(
      settings_, kRows, kColumns, "fp8_row_f32", "quantization_config",
      [&](std::size_t r, std::size_t j) { return scales[r] * fp8(codes[r * kColumns + j]); });
  parts_["x.weight_scale"] = part("F32", {1}, std::vector<float>{0.5f});
  expect_values(settings_, kRows, kColumns, "fp8_row_f32", "quantization_config",
                [&](std::size_t r, std::size_t j) { return 0.5f * fp8(codes[r * kColumns + j]); });
  codes[9] = 0xff;
  parts_["x.weight"] = part("F8_E4M3", {kRows, kColumns}, codes);
  expect_error(settings_, "not finite");
  parts_["x.weight"] = part("I8", {kRows, kColumns}, codes);
  expect_values(settings_, kRows, kColumns, "int8_row_f32", "quantization_config",
                [&](std::size_t r, std::size_t j) {
                  return 0.5f * float(std::int8_t(codes[r * kColumns + j]));
                });
}

TEST_F(CompressedTest, FourBitFloats) {
  constexpr std::size_t kRows = 4, kColumns = 64;
  constexpr float kSizes[8] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
  std::vector<std::uint8_t> codes(kRows * kColumns / 2);
  for (std::size_t i = 0; i < codes.size(); ++i) codes[i] = std::uint8_t(i * 41);
  const auto value = [&](std::size_t i) {
    const unsigned code = codes[i / 2] >> (i % 2 * 4) & 15;
    return code & 8 ? -kSizes[code & 7] : kSizes[code & 7];
  };
  std::vector<std::uint8_t> powers, floats;
  for (std::size_t i = 0; i < kRows * kColumns / 32; ++i) powers.push_back(std::uint8_t(120 + i));
  for (std::size_t i = 0; i < kRows * kColumns / 16; ++i) floats.push_back(std::uint8_t(0x38 + i));
  parts_["x.weight_packed"] = part("U8", {kRows, kColumns / 2}, codes);
  parts_["x.weight_scale"] = part("U8", {kRows, kColumns / 32}, powers);
  expect_values(settings_, kRows, kColumns, "mxfp4", "quantization_config",
                [&](std::size_t r, std::size_t j) {
                  const std::size_t i = r * kColumns + j;
                  return std::ldexp(value(i), powers[i / 32] - 127);
                });
  parts_["x.weight_scale"] = part("F8_E4M3", {kRows, kColumns / 16}, floats);
  parts_["x.weight_global_scale"] = part("F32", {1}, std::vector<float>{4});
  expect_values(settings_, kRows, kColumns, "nvfp4", "quantization_config",
                [&](std::size_t r, std::size_t j) {
                  const std::size_t i = r * kColumns + j;
                  const unsigned s = floats[i / 16];  // all of exponent 7 and more
                  return value(i) * std::ldexp(1 + float(s & 7) / 8, int(s >> 3) - 7) / 4;
                });
  parts_["x.weight_global_scale"] = part("F32", {1}, std::vector<float>{0});
  expect_error(settings_, "'x.weight_global_scale': 0");
}

/// What config_groups says of the inputs of a matrix of 8-bit integers.
class CompressedInputsTest : public SchemeTest {
 protected:
  using Kind = InputRounding::Kind;

  CompressedInputsTest() {
    parts_["x.weight"] = part("I8", {2, 32}, std::vector<std::int8_t>(64, 1));
    parts_["x.weight_scale"] = part("F32", {1}, std::vector<float>{1});
  }

  static std::string group(const std::string& inputs, const char* type = "int", int bits = 8,
                           const char* targets = R"(["Linear"])") {
    return fmt::format(
        R"({{"targets":{},"weights":{{"type":"{}","num_bits":{}}},"input_activations":{}}})",
        targets, type, bits, inputs);
  }
  static std::string inputs(const char* type, int bits, const char* strategy, const char* dynamic,
                            const char* more = "") {
    return fmt::format(
        R"({{"type":"{}","num_bits":{},"strategy":"{}","dynamic":{},"symmetric":true{}}})", type,
        bits, strategy, dynamic, more);
  }
  static std::string settings(const std::string& groups) {
    return fmt::format(R"({{"quant_method":"compressed-tensors","config_groups":{{{}}}}})", groups);
  }
  static std::string settings_of(const std::string& group) { return settings(R"("g":)" + group); }

  void expect_inputs(const std::string& settings, const InputRounding& expected) {
    write(settings);
    const auto source = open_source(dir_.path());
    ASSERT_TRUE(source) << source.error().message();
    EXPECT_EQ((*source)->tensors()[0].inputs, expected) << settings;
    notes_ = (*source)->notes();
  }
  void expect_note(const std::string& settings, const std::string& text) {
    expect_inputs(settings, {});
    ASSERT_EQ(notes_.size(), 1u) << settings;
    EXPECT_THAT(notes_[0], HasSubstr(text));
  }
};

TEST_F(CompressedInputsTest, TokensAndTensors) {
  const std::string token = inputs("int", 8, "token", "true"),
                    tensor = inputs("float", 8, "tensor", "false");
  expect_inputs(settings_of(group("null")), {});
  expect_inputs(settings_of(group(token)), {.kind = Kind::int8});
  expect_inputs(settings_of(group(inputs("float", 8, "token", "true"))), {.kind = Kind::fp8});
  EXPECT_TRUE(notes_.empty());
  expect_error(settings_of(group(tensor)), "tensor 'x.input_scale' is missing");
  parts_["x.input_scale"] = part("F32", {1}, std::vector<float>{0.25f});
  expect_inputs(settings_of(group(tensor)), {.kind = Kind::fp8, .scale = 0.25f});
  parts_["x.input_scale"] = part("F32", {}, std::vector<float>{0.5f});
  expect_inputs(settings_of(group("{}")), {.kind = Kind::int8, .scale = 0.5f});
  EXPECT_TRUE(notes_.empty());
  for (const float bad : {0.0f, -1.0f, NAN, INFINITY}) {
    parts_["x.input_scale"] = part("F32", {1}, std::vector<float>{bad});
    expect_error(settings_of(group(tensor)), "tensor 'x.input_scale'");
  }
  parts_["x.input_scale"] = part("F32", {2}, std::vector<float>{1, 1});
  expect_error(settings_of(group(tensor)), "'x.input_scale' is F32 [2]");
}

TEST_F(CompressedInputsTest, WhatNibbleWritesIsRead) {
  const auto scheme = std::ranges::find(scheme_registry(), "compressed-tensors", &Scheme::id);
  for (const auto& [text, kind] : {std::pair("w8a8", Kind::int8), std::pair("w8a16", Kind::none)}) {
    const auto packing = (*scheme)->packer(text);
    ASSERT_TRUE(packing) << packing.error().message();
    expect_inputs((*packing)->settings({})["quantization_config"].dump(), {.kind = kind});
    EXPECT_TRUE(notes_.empty());
  }
}

TEST_F(CompressedInputsTest, FourBits) {
  const std::string local = inputs("float", 4, "tensor_group", "\"local\"",
                                   R"(,"group_size":16,"scale_dtype":"torch.float8_e4m3fn")");
  expect_error(settings_of(group(local)), "tensor 'x.input_global_scale' is missing");
  parts_["x.input_global_scale"] = part("F32", {1}, std::vector<float>{96});
  expect_inputs(settings_of(group(local)), {.kind = Kind::fp4, .scale = 96});
  expect_note(settings_of(group(inputs("float", 4, "group", "true", R"(,"group_size":32)"))),
              "to symmetric 'float' of 4 bits (strategy 'group', dynamic 'true')");
}

TEST_F(CompressedInputsTest, WhatNibbleCannotDoIsSaid) {
  for (const auto& other :
       {inputs("int", 4, "token", "true"), inputs("int", 8, "tensor", "true"),
        inputs("int", 8, "channel", "false"), inputs("odd", 8, "token", "true"),
        inputs("int", 8, "token", "true", R"(,"scale_dtype":"torch.uint8")"),
        std::string(R"({"symmetric":false,"strategy":"token","dynamic":true})")})
    expect_note(settings_of(group(other)), "group 'g'");
  const std::string token = inputs("int", 8, "token", "true");
  const std::string outputs = group("null").substr(1);
  expect_note(settings_of(R"({"output_activations":{},)" + outputs), "the outputs of group 'g'");
  expect_note(R"({"quant_method":"compressed-tensors","kv_cache_scheme":{}})", "keys and values");
}

TEST_F(CompressedInputsTest, GroupsAreToldApart) {
  const std::string token = inputs("int", 8, "token", "true"),
                    floats = inputs("float", 8, "token", "true");
  // By their weights, and by name.
  expect_inputs(settings(R"("a":)" + group(floats, "float") + R"(,"b":)" + group(token)),
                {.kind = Kind::int8});
  expect_inputs(settings(R"("a":)" + group(token) + R"(,"b":)" + group(token)),
                {.kind = Kind::int8});
  expect_inputs(
      settings(R"("a":)" + group(token) + R"(,"b":)" + group(floats, "int", 8, R"(["x"])")),
      {.kind = Kind::fp8});
  expect_note(settings(R"("a":)" + group(token) + R"(,"b":)" + group("null")), "which group 'x'");
  expect_note(settings_of(group(token, "int", 4)), "which group 'x'");
}

TEST_F(CompressedInputsTest, HostileSettingsNameTheField) {
  const auto bad = [&](const char* field, const char* value, const char* reason) {
    expect_error(
        settings_of(group(fmt::format(R"({{"{}":{}}})", field, value))),
        fmt::format("config_groups: 'g': input_activations: field '{}' is {}", field, reason));
  };
  bad("num_bits", "-8", "number");
  bad("num_bits", "\"8\"", "string");
  bad("type", "8", "number");
  bad("symmetric", "1", "number");
  bad("strategy", "[]", "array");
  bad("dynamic", "{}", "object");
  bad("group_size", "{}", "object");
  bad("scale_dtype", "1", "number");
  expect_error(settings_of("[]"), "config_groups: 'g': is array");
  expect_error(settings_of(group("7")), "field 'input_activations' is number");
  expect_error(settings_of(R"({"weights":[]})"), "field 'weights' is array");
  expect_error(settings_of(group("null", "int", -1)), "weights: field 'num_bits' is number");
  expect_error(R"({"quant_method":"compressed-tensors","config_groups":3})",
               "field 'config_groups' is number");
}

TEST_F(SchemeTest, EightBitFloatsInBlocks) {
  constexpr std::size_t kRows = 5, kColumns = 96;
  std::vector<std::uint8_t> codes(kRows * kColumns);
  for (std::size_t i = 0; i < codes.size(); ++i) {
    codes[i] = std::uint8_t(i * 3);
    if ((codes[i] & 127) == 127) codes[i] = 1;  // no number
  }
  std::vector<float> scales(3 * 2);
  for (std::size_t i = 0; i < scales.size(); ++i) scales[i] = std::ldexp(1.0f, int(i) - 3);
  const auto settings = [](const char* block, const char* more = "") {
    return fmt::format(R"({{"quant_method":"fp8","weight_block_size":{}{}}})", block, more);
  };
  const auto expect = [&](const std::string& text, auto scale) {
    expect_values(text, kRows, kColumns, "fp8_g32_f32", "quantization_config",
                  [&](std::size_t r, std::size_t j) {
                    return scale(r, j) * e4m3_to_f32(codes[r * kColumns + j]);
                  });
  };
  parts_["x.weight"] = part("F8_E4M3", {kRows, kColumns}, codes);
  parts_["x.weight_scale_inv"] = part("F32", {3, 2}, scales);
  expect(settings("[2,64]"),
         [&](std::size_t r, std::size_t j) { return scales[r / 2 * 2 + j / 64]; });
  EXPECT_EQ(inputs_, (InputRounding{.kind = InputRounding::Kind::fp8, .group = 64}));
  expect_error(settings("[2,32]"), "'x.weight_scale_inv' is F32 [3, 2], expected number [3, 3]");
  expect_error(settings("[2,48]"), "'weight_block_size': 48 columns, nibble reads multiples of 32");
  for (const char* bad : {"[2]", "[0,64]", "[2,-64]", "64"})
    expect_error(settings(bad), "'weight_block_size' is not rows and columns");
  expect_error(settings("null"), "'x.weight_scale_inv' is F32 [3, 2]");
  expect_error(settings("[2,64]", R"(,"fmt":"e5m2")"), "field 'fmt': 'e5m2'");
  expect_error(settings("[2,64]", R"(,"activation_scheme":"odd")"), "'activation_scheme': 'odd'");

  const std::string fixed = R"(,"activation_scheme":"static")";
  expect_error(settings("[2,64]", fixed.c_str()), "tensor 'x.activation_scale' is missing");
  parts_["x.activation_scale"] = part("F32", {}, std::vector<float>{0});
  expect_error(settings("[2,64]", fixed.c_str()),
               "'x.activation_scale': 0, expected a number above 0");
  parts_["x.activation_scale"] = part("BF16", {1}, std::vector<std::uint16_t>{0x4000});
  parts_["x.weight_scale_inv"] = part("F32", {}, std::vector<float>{0.5f});
  expect(settings("null", fixed.c_str()), [](std::size_t, std::size_t) { return 0.5f; });
  EXPECT_EQ(inputs_, (InputRounding{.kind = InputRounding::Kind::fp8, .scale = 2}));
  codes[9] = 0xff;
  parts_["x.weight"] = part("F8_E4M3", {kRows, kColumns}, codes);
  expect_error(settings("null", fixed.c_str()), "not finite");
}

TEST_F(SchemeTest, Mlx) {
  for (const unsigned bits : {4u, 8u}) {
    const Truth t(8, 128, 64, bits);
    std::vector<std::uint32_t> codes(t.rows * t.columns * bits / 32);
    std::vector<float> biases;
    for (std::size_t i = 0; i < t.scale.size(); ++i) biases.push_back(-0.0625f * float(i % 5));
    for (std::size_t r = 0; r < t.rows; ++r)
      for (std::size_t j = 0; j < t.columns; ++j)
        put(codes, r * (t.columns * bits / 32), 1, j, bits, t.code[r * t.columns + j]);
    parts_["x.weight"] = part("U32", {t.rows, t.columns * bits / 32}, codes);
    parts_["x.scales"] = part("F16", {t.rows, t.groups()}, halves(t.scale));
    parts_["x.biases"] = part("F16", {t.rows, t.groups()}, halves(biases));
    const std::string settings = fmt::format(R"({{"group_size":64,"bits":{}}})", bits);
    if (bits == 4)
      expect_values(settings, t.rows, t.columns, "int4_g64_min", "quantization",
                    [&](std::size_t r, std::size_t j) {
                      const std::size_t g = r * t.groups() + j / 64;
                      return t.scale[g] * float(t.code[r * t.columns + j]) + biases[g];
                    });
    else  // the bias is that of level -128: the same numbers, added in another order
      expect_values(settings, t.rows, t.columns, "int8_g64_min_f32", "quantization",
                    [&](std::size_t r, std::size_t j) {
                      const std::size_t g = r * t.groups() + j / 64;
                      const float bias = biases[g] + t.scale[g] * 128;
                      return t.scale[g] * float(int(t.code[r * t.columns + j]) - 128) + bias;
                    });
  }
}

}  // namespace
}  // namespace nibble
