// What every scheme owes: what it writes it reads, bit for bit.
#include <gtest/gtest.h>

#include <random>

#include "container/scheme.h"

namespace nibble {
namespace {

/// Every way to write that a scheme has.
const std::map<std::string_view, std::vector<std::string>>& texts() {
  static const std::map<std::string_view, std::vector<std::string>> all = {
      {"gptq",
       {"int2-g32", "int3-g64", "int4", "int4-g32-asym", "int4-gchannel", "int8-g128-v2",
        "int3-g128-asym", "int4-g64-actorder"}},
      {"awq", {"int4", "int4-g64", "int4-g32"}},
      {"bitsandbytes", {"nf4", "fp4-f32", "int8"}},
      {"compressed-tensors",
       {"w4a16", "w4a16-g32-asym", "w4a16-gchannel", "w8a16", "w8a16-g64", "w8a8", "fp8",
        "fp8-static", "mxfp4", "nvfp4"}},
      {"fp8", {}},  // nibble only reads them
      {"mlx", {"int4", "int2-g32", "int3-g128"}}};
  return all;
}

struct Case {
  const Scheme* scheme;
  std::string text;
};

class PackingContract : public testing::TestWithParam<Case> {};

TEST_P(PackingContract, WhatIsWrittenIsRead) {
  const auto packer = GetParam().scheme->packer(GetParam().text);
  ASSERT_TRUE(packer) << packer.error().message();
  const Format& format = (*packer)->format();
  TensorInfo info{.name = "x.weight", .shape = {64, 256}, .format = &format};
  info.bytes = stored_bytes(format, info.shape).value();
  info.inputs = (*packer)->stored_inputs(224);
  std::mt19937 random(4);
  std::vector<std::byte> rows(info.bytes), again(info.bytes);
  std::vector<Code> codes(std::size_t(format.block()));
  const auto blocks = std::size_t(info.columns()) / codes.size();
  Grid grid;
  for (std::size_t b = 0; b < info.bytes / format.spec().bytes; ++b) {
    if (!format.layout().whole_row || b % blocks == 0) {
      grid.d = std::ldexp(1.0f + float(random() % 128) / 128, -int(random() % 9));
      if (format.layout().number == Layout::Number::power) grid.d = 0.25f;
      if (format.layout().has_offset) grid.dmin = float(random() % 4);
    }
    for (Code& c : codes) c = Code(random() % format.level_values().size());
    format.pack(grid, codes.data(), rows.data() + b * format.spec().bytes);
  }
  const auto parts = (*packer)->parts(info);
  ASSERT_TRUE(parts) << parts.error().message();
  std::vector<std::vector<std::byte>> data;
  for (const PartInfo& part : *parts) data.emplace_back(part.bytes());
  const std::vector<std::span<std::byte>> spans(data.begin(), data.end());
  (*packer)->pack(info, rows, spans);

  std::vector<RawTensor> raw;
  for (std::size_t i = 0; i < data.size(); ++i)
    raw.push_back({(*parts)[i].name, (*parts)[i].dtype, (*parts)[i].shape, data[i]});
  const Json config = (*packer)->settings({"lm_head"});
  const Json* settings = GetParam().scheme->settings(config);
  ASSERT_NE(settings, nullptr) << config;
  const RawTensors tensors(raw);
  const auto unpacked = GetParam().scheme->unpack(*settings, tensors);
  ASSERT_TRUE(unpacked) << unpacked.error().message();
  EXPECT_TRUE(unpacked->notes.empty());
  ASSERT_EQ(unpacked->tensors.size(), 1u);
  const PackedTensor& found = *unpacked->tensors[0];
  EXPECT_EQ(found.info().format, &format);
  EXPECT_EQ(found.info().shape, info.shape);
  for (const PartInfo& part : *parts)
    EXPECT_NE(std::ranges::count(found.parts(), part.name) > 0,
              GetParam().scheme->ignores(part.name))
        << part.name;
  if ((*packer)->needs_largest_input()) {
    EXPECT_EQ(found.info().inputs, info.inputs);
  }
  ASSERT_EQ(found.info().bytes, info.bytes);
  found.read(0, info.rows(), again.data());
  std::vector<float> before(info.elements()), after(info.elements());
  format.decode(rows.data(), before.size() / codes.size(), before.data());
  format.decode(again.data(), after.size() / codes.size(), after.data());
  EXPECT_EQ(before, after);
}

TEST(Packer, RefusesWhatThereIsNot) {
  for (const Scheme* scheme : scheme_registry())
    for (const char* text : {"", "int5", "int4-g48", "nf4-g64", "w4a16-v9", "int4-g"})
      EXPECT_FALSE(scheme->packer(text)) << scheme->id() << ": " << text;
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const Scheme* scheme : scheme_registry()) {
    EXPECT_TRUE(texts().contains(scheme->id())) << "no packer of " << scheme->id();
    for (const std::string& text : texts().at(scheme->id())) all.push_back({scheme, text});
  }
  return all;
}

INSTANTIATE_TEST_SUITE_P(All, PackingContract, testing::ValuesIn(cases()), [](const auto& c) {
  std::string name = std::string(c.param.scheme->id()) + "_" + c.param.text;
  for (char& letter : name)
    if (letter == '-') letter = '_';
  return name;
});

}  // namespace
}  // namespace nibble
