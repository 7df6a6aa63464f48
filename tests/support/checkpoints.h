// Small checkpoints made in memory, for the tests of containers.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "container/writer.h"

namespace nibble {

/// A tensor of format `id` with bytes that differ from tensor to tensor.
struct Sample {
  TensorInfo info;
  std::string data;
};

inline Sample make_sample(const std::string& name, const std::string& id,
                          std::vector<std::uint64_t> shape) {
  Sample sample;
  sample.info.name = name;
  sample.info.shape = std::move(shape);
  sample.info.format = find_format(id);
  sample.info.bytes = stored_bytes(*sample.info.format, sample.info.shape).value();
  for (std::uint64_t i = 0; i < sample.info.bytes; ++i)
    sample.data.push_back(char(i * 31 + name.back()));
  return sample;
}

inline std::vector<TensorInfo> infos(const std::vector<Sample>& samples) {
  std::vector<TensorInfo> out;
  for (const Sample& sample : samples) out.push_back(sample.info);
  return out;
}

/// One value of every type that metadata can have.
inline Metadata all_types() {
  Metadata metadata;
  metadata.set("general.architecture", std::string("test"));
  metadata.set("a.u8", std::uint8_t(200));
  metadata.set("a.i8", std::int8_t(-100));
  metadata.set("a.u16", std::uint16_t(60000));
  metadata.set("a.i16", std::int16_t(-30000));
  metadata.set("a.u32", std::uint32_t(4000000000));
  metadata.set("a.i32", std::int32_t(-2000000000));
  metadata.set("a.f32", 0.1f);
  metadata.set("a.bool", true);
  metadata.set("a.u64", std::uint64_t(1) << 63);
  metadata.set("a.i64", std::int64_t(-1) << 62);
  metadata.set("a.f64", 0.1);
  metadata.set("v.u8", std::vector<std::uint8_t>{1, 255});
  metadata.set("v.i8", std::vector<std::int8_t>{1, -1});
  metadata.set("v.u16", std::vector<std::uint16_t>{1, 2, 3});
  metadata.set("v.i16", std::vector<std::int16_t>{-1});
  metadata.set("v.u32", std::vector<std::uint32_t>{7});
  metadata.set("v.i32", std::vector<std::int32_t>{-7, 7});
  metadata.set("v.f32", std::vector<float>{1.5f, -0.0f});
  metadata.set("v.bool", std::vector<bool>{true, false, true});
  metadata.set("v.string", std::vector<std::string>{"", "\xc3\xa9", std::string("a\0b", 3)});
  metadata.set("v.u64", std::vector<std::uint64_t>{9});
  metadata.set("v.i64", std::vector<std::int64_t>{-9});
  metadata.set("v.f64", std::vector<double>{2.5});
  metadata.set("v.empty", std::vector<float>{});
  return metadata;
}

inline Result<std::vector<std::string>> write_gguf(const std::string& path,
                                                   const Metadata& metadata,
                                                   const std::vector<Sample>& samples,
                                                   const WriteOptions& options = {}) {
  NIBBLE_TRY(auto writer, create_gguf(path, metadata, infos(samples), options));
  for (std::size_t i = 0; i < samples.size(); ++i)
    NIBBLE_DO(writer->write(i, std::as_bytes(std::span(samples[i].data))));
  return writer->finish();
}

/// The file that a header (JSON text) and data make.
inline std::string safetensors_file(const std::string& header, const std::string& data) {
  const std::uint64_t size = header.size();
  std::string file(8, '\0');
  std::memcpy(file.data(), &size, 8);
  return file + header + data;
}

inline void expect_same(const Source& source, const std::vector<Sample>& samples) {
  ASSERT_EQ(source.tensors().size(), samples.size());
  for (std::size_t i = 0; i < samples.size(); ++i) {
    const TensorInfo& found = source.tensors()[i];
    EXPECT_EQ(found.name, samples[i].info.name);
    EXPECT_EQ(found.shape, samples[i].info.shape);
    EXPECT_EQ(found.format, samples[i].info.format);
    const auto bytes = source.data(i);
    EXPECT_EQ(std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()),
              samples[i].data);
  }
}

}  // namespace nibble
