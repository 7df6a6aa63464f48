// Packed weights that are kept in files.
#include "graph/packed_cache.h"

#include <gmock/gmock.h>

#include "graph/runtime.h"
#include "support/memory_source.h"
#include "support/temp_dir.h"

namespace nibble {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

const Arch& llama() {
  for (const Arch* arch : arch_registry())
    if (arch->id() == "llama") return *arch;
  std::abort();
}

class PackedCacheTest : public testing::Test {
 protected:
  PackedCacheTest() { write_file(location_, "a model"); }

  Model model() const {
    auto source = small_checkpoint(llama(), config_);
    source->location = location_;
    return std::move(*Model::from(std::move(source)));
  }

  Result<std::vector<float>> logits(const std::string& packed) const {
    const Model opened = model();
    NIBBLE_TRY(const auto runtime, Runtime::load(opened, {.threads = 2, .packed = packed}));
    Session session(*runtime, 8);
    NIBBLE_TRY(const auto out, session.forward(std::vector<std::uint32_t>{3, 14, 15, 9}));
    return std::vector<float>(out.begin(), out.end());
  }
  std::vector<float> kept_logits() const {
    auto out = logits(dir_ / "packed");
    if (out) return *out;
    ADD_FAILURE() << out.error().message();
    return {};
  }

  /// The only file.
  fs::path file() const {
    const fs::directory_iterator all(dir_ / "packed");
    EXPECT_EQ(std::distance(all, {}), 1);
    return fs::directory_iterator(dir_ / "packed")->path();
  }

  void overwrite(std::uint64_t at, const std::string& bytes) const {
    std::fstream(file(), std::ios::binary | std::ios::in | std::ios::out)
        .seekp(std::streamoff(at))
        .write(bytes.data(), std::streamsize(bytes.size()));
  }

  TempDir dir_;
  std::string location_ = dir_ / "model";
  Json config_ = small_config("LlamaForCausalLM");
};

/// What a later load takes is what is in the file.
TEST_F(PackedCacheTest, IsWrittenOnceAndThenMapped) {
  const auto plain = *logits("");
  EXPECT_EQ(kept_logits(), plain);
  const auto written = fs::last_write_time(file());
  EXPECT_EQ(kept_logits(), plain);
  EXPECT_EQ(fs::last_write_time(file()), written);
  overwrite(PackedCache::kPage, std::string(fs::file_size(file()) - PackedCache::kPage, 0));
  EXPECT_NE(kept_logits(), plain);
}

TEST_F(PackedCacheTest, OfAnotherStateIsWrittenAnew) {
  const auto plain = *logits("");
  kept_logits();
  const std::string zeros(fs::file_size(file()) - PackedCache::kPage, 0);
  const auto renewed = [&](const char* what) {
    SCOPED_TRACE(what);
    EXPECT_EQ(kept_logits(), *logits(""));
    overwrite(PackedCache::kPage, zeros);
    EXPECT_NE(kept_logits(), *logits(""));
  };
  fs::last_write_time(location_, fs::last_write_time(location_) + std::chrono::nanoseconds(1));
  renewed("time of the model");
  write_file(location_, "another model");
  renewed("size of the model");
  config_["rope_theta"] = 2000.0;
  renewed("configuration");
  overwrite(30, "x");
  renewed("digest");
  fs::resize_file(file(), fs::file_size(file()) - 1);
  renewed("cut off");
  fs::resize_file(file(), 0);
  renewed("empty");
}

TEST_F(PackedCacheTest, ModelsOfOneNameHaveTheirOwnFiles) {
  kept_logits();
  fs::create_directory(dir_ / "other");
  location_ = dir_ / "other/model";
  write_file(location_, "a model");
  kept_logits();
  EXPECT_EQ(std::distance(fs::directory_iterator(dir_ / "packed"), {}), 2);
}

/// Values that a transform has made are not those of the model's files.
TEST_F(PackedCacheTest, RewrittenMatricesAreNotKept) {
  Model changed = model();
  changed.rescale("blk.0.attn_v.weight", std::vector<float>(16, 0.5f), {});
  auto cache = PackedCache::open(dir_ / "packed", changed);
  ASSERT_TRUE(cache) << cache.error().message();
  ASSERT_TRUE(cache->commit());
  const auto with = fs::file_size(file());
  kept_logits();
  EXPECT_GT(fs::file_size(file()), with);
}

TEST_F(PackedCacheTest, ErrorsNameThePlace) {
  write_file(dir_ / "packed", "no directory");
  EXPECT_THAT(logits(dir_ / "packed").error().message(), HasSubstr(dir_ / "packed"));
  fs::remove(dir_ / "packed");
  kept_logits();
  const fs::path there = file();
  fs::remove(there);
  fs::create_directory(there);
  EXPECT_THAT(logits(dir_ / "packed").error().message(), HasSubstr("not a regular file"));
}

}  // namespace
}  // namespace nibble
