// Sizes, memory and ranking of advice, for the shapes of models that people run.
#include "nibble/advise.h"

#include <gtest/gtest.h>

#include <cmath>

#include "advise/loss.h"
#include "advise/shapes.h"
#include "advise/speed.h"
#include "graph/memory.h"
#include "graph/pages.h"
#include "graph/runtime.h"
#include "kernel/caches.h"
#include "support/memory_source.h"
#include "support/temp_dir.h"

namespace nibble {
namespace {

constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;

std::string config(const std::string& name) {
  return std::string(NIBBLE_TEST_DATA) + "/configs/" + name + ".json";
}

Machine some_machine(std::uint64_t memory) {
  Machine machine;
  machine.isa = "scalar", machine.cores = machine.threads = 4;
  machine.memory_bytes = machine.free_bytes = memory;
  return machine;
}

Result<Advice> advice_for(const std::string& name, std::uint64_t memory,
                          Purpose purpose = Purpose::chat, std::uint32_t context = 4096) {
  AdviseOptions options;
  options.source = config(name), options.memory_bytes = memory, options.context = context;
  options.purpose = purpose, options.measure_speed = false;
  return advise(options, some_machine(memory));
}

const AdvisedLevel* find(const Advice& advice, std::string_view level) {
  const auto found = std::ranges::find(advice.levels, level, &AdvisedLevel::name);
  return found == advice.levels.end() ? nullptr : &*found;
}

struct Published {
  const char* config;
  const char* level;
  double bytes;  // of the file that people download, made by llama.cpp
};
// Mixtures of experts got other mixes over time: only what all versions agree in.
constexpr Published kPublished[] = {
    {"mistral-7b", "Q8_0", 7695857952},    {"mistral-7b", "Q6_K", 5942065440},
    {"mistral-7b", "Q5_K_M", 5131409696},  {"mistral-7b", "Q4_K_M", 4368439584},
    {"mistral-7b", "Q3_K_M", 3518986528},  {"llama-3-8b", "Q8_0", 8540770784},
    {"llama-3-8b", "Q4_K_M", 4920734176},  {"llama-2-70b", "Q4_K_M", 41422908192},
    {"mixtral-8x7b", "Q8_0", 49624262592}, {"smollm2-1.7b", "Q4_K_M", 1055609536},
};

TEST(Advise, SizesAreThoseOfPublishedFiles) {
  for (const Published& each : kPublished) {
    const auto advice = advice_for(each.config, 128 * kGiB);
    ASSERT_TRUE(advice) << advice.error().message();
    const AdvisedLevel* level = find(*advice, each.level);
    ASSERT_NE(level, nullptr);
    EXPECT_NEAR(double(level->file_bytes) / each.bytes, 1, 0.01) << each.config << each.level;
  }
}

TEST(Advise, WhatFitsDependsOnMemory) {
  for (const char* name :
       {"mistral-7b", "llama-3-8b", "llama-2-70b", "mixtral-8x7b", "smollm2-135m"}) {
    std::size_t before = 0;
    for (const std::uint64_t size : {8, 16, 24, 48, 128}) {
      const auto advice = advice_for(name, size * kGiB);
      ASSERT_TRUE(advice) << advice.error().message();
      const auto fits = std::size_t(std::ranges::count(advice->levels, true, &AdvisedLevel::fits));
      EXPECT_GE(fits, before) << name << size;
      before = fits;
      EXPECT_EQ(advice->recommended.has_value(), fits > 0);
      for (const AdvisedLevel& level : advice->levels)
        EXPECT_EQ(level.fits, level.memory.total() <= advice->memory_bytes);
    }
    EXPECT_GT(before, 10u) << name;
  }
}

TEST(Advise, SaysWhatWouldFit) {
  const auto none = advice_for("llama-2-70b", 8 * kGiB);
  ASSERT_TRUE(none);
  EXPECT_FALSE(none->recommended);
  EXPECT_NE(none->notes.back().find("a smaller model is needed"), std::string::npos);
  AdviseOptions options;
  options.source = config("mistral-7b"), options.context = 32768;
  options.memory_bytes = 4 * kGiB, options.levels = {"Q2_K"}, options.measure_speed = false;
  const auto shorter = advise(options, some_machine(4 * kGiB));
  ASSERT_TRUE(shorter);
  EXPECT_FALSE(shorter->recommended);
  EXPECT_NE(shorter->notes.back().find("--ctx 4096"), std::string::npos) << shorter->notes.back();
}

TEST(Advise, TheRecommendedLosesLittleEnoughAndIsSmallest) {
  const auto chat = advice_for("mistral-7b", 128 * kGiB);
  const auto code = advice_for("mistral-7b", 128 * kGiB, Purpose::code);
  ASSERT_TRUE(chat && code);
  const AdvisedLevel &easy = chat->levels[0], &strict = code->levels[0];
  ASSERT_TRUE(easy.loss && strict.loss);
  EXPECT_LE(easy.loss->kld, 0.05);
  EXPECT_LE(strict.loss->kld, 0.02);
  for (const AdvisedLevel& level : chat->levels)
    if (level.fits && level.loss && level.loss->kld <= 0.05) {
      EXPECT_GE(level.file_bytes, easy.file_bytes) << level.name;
    }
}

TEST(Advise, LossesSayWhereTheyComeFrom) {
  const auto advice = advice_for("mistral-7b", 128 * kGiB);
  ASSERT_TRUE(advice);
  const AdvisedLevel* level = find(*advice, "Q4_K_M");
  ASSERT_TRUE(level->loss);
  EXPECT_FALSE(level->loss->own);
  EXPECT_NE(level->loss->origin.find("parameters"), std::string::npos);
  EXPECT_TRUE(std::ranges::any_of(advice->notes, [](const std::string& note) {
    return note.find("has not measured") != note.npos;
  }));
  const AdvisedLevel* whole = find(*advice, "BF16");
  ASSERT_TRUE(whole && whole->loss);
  EXPECT_EQ(whole->loss->kld, 0);
}

TEST(Advise, ReportsOfThisModelComeFirst) {
  TempDir dir;
  const std::string report = dir / "own.json";
  write_file(report,
             R"({"models": [{"model": "x-Q4_K_M.gguf", "kld_mean": 0.25, "same_top": 0.5},
                            {"model": "x-Q8_0.gguf", "kld_mean": 0.001, "same_top": 0.99}]})");
  AdviseOptions options;
  options.source = config("mistral-7b"), options.measure_speed = false;
  options.evaluations = {report};
  const auto advice = advise(options, some_machine(64 * kGiB));
  ASSERT_TRUE(advice) << advice.error().message();
  EXPECT_EQ(find(*advice, "Q4_K_M")->loss->kld, 0.25);
  EXPECT_TRUE(find(*advice, "Q4_K_M")->loss->own);
  EXPECT_FALSE(find(*advice, "Q5_K_M")->loss->own);
  for (const char* bad : {"{}", "[1]", R"({"kld_mean": 1, "same_top": 1, "model": "plain.gguf"})",
                          R"({"kld_mean": -1, "same_top": 1, "model": "Q4_0.gguf"})"}) {
    write_file(report, bad);
    const auto refused = advise(options, some_machine(64 * kGiB));
    ASSERT_FALSE(refused) << bad;
    EXPECT_NE(refused.error().message().find("own.json"), std::string::npos);
  }
}

TEST(Advise, RefusesWhatIsNoModel) {
  TempDir dir;
  AdviseOptions options;
  options.source = dir / "config.json";
  EXPECT_FALSE(advise(options, some_machine(kGiB)));
  write_file(options.source, R"({"architectures": ["Unheard"]})");
  const auto unknown = advise(options, some_machine(kGiB));
  ASSERT_FALSE(unknown);
  EXPECT_NE(unknown.error().message().find("architectures"), std::string::npos);
  options.source = config("mistral-7b"), options.levels = {"Q9_Z"};
  EXPECT_FALSE(advise(options, some_machine(kGiB)));
}

/// A small model of the first architecture, in a format of choice.
std::vector<TensorInfo> tensors_in(const Graph& graph, const Format& format) {
  std::vector<TensorInfo> out;
  for (const Weight& weight : graph.weights) {
    TensorInfo info{.name = weight.name, .shape = weight.shape};
    info.format = weight.shape.size() == 2 ? &format : find_format("f32");
    out.push_back(std::move(info));
  }
  return out;
}

TEST(Memory, WeightsTakeWhatLoadingAllocates) {
  const Arch& arch = *arch_registry().front();
  Json json = small_config(arch.hf_architectures().front());
  json["hidden_size"] = 256u, json["intermediate_size"] = 512u, json["head_dim"] = 64u;
  const auto c = arch.from_hf(json);
  ASSERT_TRUE(c) << c.error().message();
  const Graph graph = arch.graph(*c);
  for (const Format* format : format_registry()) {
    if (512 % format->block() != 0 || 256 % format->block() != 0) continue;
    const auto runtime =
        Runtime::blank(graph, [&](const Weight&) -> const Format& { return *format; });
    ASSERT_TRUE(runtime) << runtime.error().message();
    EXPECT_EQ((*runtime)->weight_bytes(), weight_bytes(tensors_in(graph, *format))) << format->id();
  }
}

TEST(Memory, PackedBytesAreThoseOfPackedMatrices) {
  ThreadPool pool(1);
  for (const Format* format : format_registry()) {
    const std::int64_t rows = 40, columns = 512;
    if (columns % format->block() != 0) continue;
    const std::vector<std::byte> zeros(std::size_t(rows) * format->row_bytes(columns));
    const auto packed = Matrix::pack(*format, rows, columns, zeros, pool);
    ASSERT_TRUE(packed) << packed.error().message();
    EXPECT_EQ(packed->bytes(), Matrix::packed_bytes(*format, rows, columns)) << format->id();
    EXPECT_EQ(Matrix::blank(*format, rows, columns).bytes(), packed->bytes()) << format->id();
  }
}

TEST(Memory, CachesAreWholePages) {
  const ModelConfig c{.layers = 3, .kv_heads = 2, .head_dim = 64};
  const std::size_t page = 3 * 2 * 64 * 2 * kPagePositions * 2;  // keys and values in fp16
  const auto bytes = [&](const char* cache, std::uint64_t positions) {
    return cache_bytes(c, **find_cache(cache, Precision::fast), positions);
  };
  EXPECT_EQ(bytes("", 1), page);
  EXPECT_EQ(bytes("f16", 33), 2 * page);
  EXPECT_EQ(bytes("f32", 32), 2 * page);
  EXPECT_EQ(bytes("q8_0", 32), page * 34 / 64);  // 32 numbers of two bytes, or 32 codes and a scale
  EXPECT_EQ(bytes("q4_0", 32), page * 18 / 64);
}

TEST(Speed, ABlankModelRunsAndGivesRates) {
  const Arch& arch = *arch_registry().front();
  const auto c = arch.from_hf(small_config(arch.hf_architectures().front()));
  ASSERT_TRUE(c);
  const Graph graph = arch.graph(*c);
  const CacheOps& cache = **find_cache("", Precision::fast);
  SpeedProbe probe(graph, 64, cache, 1, kGiB);
  const auto speed = probe.measure(tensors_in(graph, *find_format("f32")));
  ASSERT_TRUE(speed && *speed);
  EXPECT_GT((*speed)->prefill, 0);
  EXPECT_GT((*speed)->decode, (*speed)->decode_full);
  SpeedProbe narrow(graph, 64, cache, 1, 1000);
  const auto none = narrow.measure(tensors_in(graph, *find_format("f32")));
  ASSERT_TRUE(none);
  EXPECT_FALSE(*none);
}

TEST(Machine, IsProbed) {
  const auto machine = probe_machine(1);
  ASSERT_TRUE(machine);
  EXPECT_GT(machine->memory_bytes, 1u << 20);
  EXPECT_LE(machine->free_bytes, machine->memory_bytes);
  EXPECT_GT(machine->speed.bytes_per_second, 0);
}

}  // namespace
}  // namespace nibble
