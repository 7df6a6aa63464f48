// What `nibble bench` measures, on small models; counters of energy, on directories made for it.
#include "nibble/benchmark.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "eval/energy.h"
#include "graph/runtime.h"
#include "support/temp_dir.h"

namespace nibble {
namespace {

const std::string kModel = std::string(NIBBLE_TEST_DATA) + "/golden/tiny/llama3";

/// What /sys/class/powercap shows of a machine.
class Powercap {
 public:
  void zone(const std::string& folder, const std::string& name, const std::string& energy) {
    std::filesystem::create_directory(dir_ / folder);
    write_file(dir_ / (folder + "/name"), name + "\n");
    write_file(dir_ / (folder + "/energy_uj"), energy + "\n");
    write_file(dir_ / (folder + "/max_energy_range_uj"), "1000000000\n");
  }
  std::string path() const { return dir_.path(); }

 private:
  TempDir dir_;
};

TEST(Energy, WholeProcessorsAndMemoryAreSummed) {
  Powercap cap;
  cap.zone("intel-rapl:0", "package-0", "5000000");
  cap.zone("intel-rapl:0:0", "core", "1000000");  // counted in the package
  cap.zone("intel-rapl:0:1", "dram", "2000000");  // not counted there
  cap.zone("intel-rapl:1", "package-1", "999000000");
  cap.zone("intel-rapl:2", "psys", "1");            // the packages once more
  cap.zone("intel-rapl-mmio:0", "package-0", "7");  // the same counter by another way
  auto counter = EnergyCounter::open(cap.path());
  ASSERT_TRUE(counter) << counter.error().message();
  EXPECT_EQ(counter->domains(), (std::vector<std::string>{"package-0", "dram", "package-1"}));
  EXPECT_EQ(*counter->lap(), 0);
  cap.zone("intel-rapl:0", "package-0", "8000000");
  cap.zone("intel-rapl:0:0", "core", "9000000");
  cap.zone("intel-rapl:0:1", "dram", "2500000");
  cap.zone("intel-rapl:1", "package-1", "4000000");  // went over its end
  EXPECT_DOUBLE_EQ(*counter->lap(), 3 + 0.5 + 5);
  EXPECT_EQ(*counter->lap(), 0);
}

TEST(Energy, NoneAndUnreadable) {
  Powercap cap;
  const auto none = EnergyCounter::open(cap.path());
  ASSERT_FALSE(none);
  EXPECT_NE(none.error().message().find("no counter of energy"), std::string::npos);
  EXPECT_FALSE(EnergyCounter::open(cap.path() + "/nowhere"));
  cap.zone("intel-rapl:0", "package-0", "many");
  EXPECT_FALSE(EnergyCounter::open(cap.path()));
  cap.zone("intel-rapl:0", "package-0", "5");
  auto counter = EnergyCounter::open(cap.path());
  ASSERT_TRUE(counter);
  const std::string file = cap.path() + "/intel-rapl:0/energy_uj";
  std::filesystem::remove(file);
  const auto gone = counter->lap();
  ASSERT_FALSE(gone);
  EXPECT_NE(gone.error().message().find(file), std::string::npos);
}

TEST(Benchmark, EveryPairOfBatchesAndContexts) {
  Powercap cap;
  cap.zone("intel-rapl:0", "package-0", "5");
  const BenchmarkOptions options = {.model = kModel,
                                    .prompt_tokens = 8,
                                    .generated_tokens = 3,
                                    .batches = {1, 4},
                                    .contexts = {0, 40},
                                    .rounds = 2,
                                    .threads = 1,
                                    .powercap = cap.path()};
  const auto report = benchmark(options);
  ASSERT_TRUE(report) << report.error().message();
  EXPECT_EQ(report->decode.rounds.size(), 2u);
  EXPECT_EQ(report->decode.joules_per_token, 0.0);
  EXPECT_EQ(report->energy_domains.size(), 1u);
  std::vector<std::pair<std::uint32_t, std::uint32_t>> pairs;
  for (const MeasuredDecode& each : report->decodes) {
    pairs.emplace_back(each.sequences, each.context);
    EXPECT_GT(each.rate.tokens_per_second, 0);
    EXPECT_EQ(each.rate.rounds.size(), 2u);
  }
  EXPECT_EQ(pairs, (decltype(pairs){{1, 40}, {4, 0}, {4, 40}}));
}

TEST(Benchmark, SaysWhyThereIsNoEnergyAndRefusesNonsense) {
  BenchmarkOptions options = {.model = kModel, .prompt_tokens = 4, .generated_tokens = 1};
  options.rounds = 1, options.threads = 1, options.powercap = "nowhere";
  const auto report = benchmark(options);
  ASSERT_TRUE(report) << report.error().message();
  EXPECT_FALSE(report->prefill.joules_per_token);
  EXPECT_EQ(report->no_energy, "nowhere: this machine shows no counter of energy");
  for (const std::uint32_t sequences : {0u, 513u}) {
    options.batches = {sequences};
    EXPECT_FALSE(benchmark(options));
  }
}

/// What a session only pretends to have seen must not stop it, and costs what seen tokens cost.
TEST(Benchmark, PretendedTokensLieInTheCache) {
  const Model model = *Model::open(kModel);
  for (const Precision precision : {Precision::fast, Precision::exact}) {
    const auto runtime = *Runtime::load(model, {.threads = 1, .precision = precision});
    Session session(*runtime, 100);
    ASSERT_TRUE(session.pretend(70));
    EXPECT_EQ(session.position(), 70u);
    const std::uint32_t token = 5;
    EXPECT_TRUE(session.forward(std::span(&token, 1)));  // finite: no memory was left as it was
    EXPECT_FALSE(session.pretend(101));
    ASSERT_TRUE(session.pretend(0));
    const auto fresh = session.forward(std::span(&token, 1));
    Session other(*runtime, 100);
    const auto expected = other.forward(std::span(&token, 1));
    EXPECT_TRUE(std::ranges::equal(*fresh, *expected));
  }
}

}  // namespace
}  // namespace nibble
