#include "container/hub.h"

#include <gmock/gmock.h>

#include "container/hub_listing.h"
#include "support/temp_dir.h"

namespace nibble {
namespace {

TEST(Hub, NamesHaveARepositoryARevisionAndAFile) {
  auto name = parse_hub_name("org/some-model_1.5");
  ASSERT_TRUE(name);
  EXPECT_EQ(name->repository, "org/some-model_1.5");
  EXPECT_EQ(name->revision, "main");
  EXPECT_EQ(name->file, "");
  name = parse_hub_name("org/model@refs/pr/1:dir/x.gguf");
  ASSERT_TRUE(name);
  EXPECT_EQ(name->repository, "org/model");
  EXPECT_EQ(name->revision, "refs/pr/1");
  EXPECT_EQ(name->file, "dir/x.gguf");
  for (const char* text : {"", "model", "/model", "org/", "org/a/b", "../model", "org/..",
                           "org/a..b", "./model", "org/model:", "org/model:../x", "org/model@",
                           "org/m odel", "org/model@../x", "org/model:/etc/x", "~/model"})
    EXPECT_FALSE(parse_hub_name(text)) << text;
}

TEST(Hub, PathsThatLeadOutsideAreNotSafe) {
  for (const char* path : {"a", "a/b.gguf", "a..b", ".hidden", "a b"})
    EXPECT_TRUE(is_safe_path(path)) << path;
  for (const char* path :
       {"", "/a", "a/", "a//b", ".", "..", "a/../b", "a/.", "a\\b", "c:", "a\nb", "\xff"})
    EXPECT_FALSE(is_safe_path(path)) << path;
}

TEST(Hub, ListingsLeaveOutUnsafePaths) {
  const auto listing = parse_listing(
      R"({"sha":"c0ffee","siblings":[{"rfilename":"a","size":3,"blobId":"00"},)"
      R"({"rfilename":"../b","size":3},{"rfilename":"c","size":4,"blobId":"11","lfs":{"sha256":"22"}}]})");
  ASSERT_TRUE(listing) << listing.error().message();
  ASSERT_EQ(listing->files.size(), 2u);
  EXPECT_EQ(listing->files[0].blob, "00");
  EXPECT_EQ(listing->find("c")->sha256, "22");
  EXPECT_EQ(listing->find("c")->blob, "");
  EXPECT_EQ(listing->find("../b"), nullptr);
  for (const char* text : {"", "[]", R"({"sha":"../x","siblings":[]})", R"({"sha":"a"})",
                           R"({"sha":"a","siblings":[{"rfilename":"a"}]})",
                           R"({"sha":"a","siblings":[{"rfilename":"a","size":-1}]})"})
    EXPECT_FALSE(parse_listing(text)) << text;
}

TEST(Hub, PathsThatExistAndFileNamesAreNotPulled) {
  const TempDir dir;
  const HubOptions nowhere{.endpoint = "http://127.0.0.1:1", .token = "", .cache = dir / "cache"};
  for (const std::string& path : {dir.path(), dir / "none.gguf", std::string("models/none.gguf"),
                                  std::string("none"), std::string("a/b/c")}) {
    const auto resolved = resolve_source(path, nowhere, no_progress());
    ASSERT_TRUE(resolved) << path;
    EXPECT_EQ(*resolved, path);
  }
  EXPECT_EQ(dir.files(), 0u);
}

}  // namespace
}  // namespace nibble
