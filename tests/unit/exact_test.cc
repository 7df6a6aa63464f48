#include "format/exact.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "base/half.h"

namespace nibble {
namespace {

constexpr std::size_t kColumns = 256;

/// A row with random codes and the scales that set(grid) makes.
template <class Set>
std::vector<std::byte> random_row(const Format& format, Set set) {
  std::mt19937 random(9);
  std::vector<std::byte> bytes(format.row_bytes(kColumns));
  std::vector<Code> codes(std::size_t(format.block()));
  for (std::size_t at = 0; at < bytes.size(); at += format.spec().bytes) {
    Grid grid;
    grid.d =
        fp16_to_f32(f32_to_fp16((random() % 2 ? 1.0f : -1.0f) * float(1 + random() % 999) / 9999));
    set(grid, random);
    for (Code& c : codes) c = Code(random() % format.level_values().size());
    format.pack(grid, codes.data(), bytes.data() + at);
  }
  return bytes;
}

bool converts(const char* from, const char* to, const std::vector<std::byte>& row) {
  const Format &a = *find_format(from), &b = *find_format(to);
  if (!may_convert_exactly(a, b)) return false;
  std::vector<std::byte> out(b.row_bytes(kColumns));
  if (!convert_exactly(a, row.data(), b, kColumns, out.data())) return false;
  std::vector<float> before(kColumns), after(kColumns);
  a.decode(row.data(), kColumns / std::size_t(a.block()), before.data());
  b.decode(out.data(), kColumns / std::size_t(b.block()), after.data());
  EXPECT_EQ(before, after) << from << " to " << to;
  return true;
}

TEST(Exact, SymmetricIntegersAreBlocksOfGguf) {
  const auto as_it_is = [](Grid&, auto&) {};
  for (const char* id :
       {"int4_g32", "int4_g64", "int4_g128", "int4_row", "int3_g64", "int2_g128"}) {
    EXPECT_TRUE(converts(id, "q4_0", random_row(*find_format(id), as_it_is))) << id;
    EXPECT_EQ(gguf_format(*find_format(id)).id(), "q4_0");
  }
  EXPECT_TRUE(converts("int8_g32", "q8_0", random_row(*find_format("int8_g32"), as_it_is)));
  EXPECT_EQ(gguf_format(*find_format("int8_row")).id(), "q8_0");
}

TEST(Exact, ScalesDecide) {
  const auto even = [](Grid& grid, auto&) { grid.d = 0.25f; };
  const auto odd = [](Grid& grid, auto&) { grid.d = 1.0f + 0x1p-20f; };
  EXPECT_TRUE(converts("int4_g32_f32", "q4_0", random_row(*find_format("int4_g32_f32"), even)));
  EXPECT_FALSE(converts("int4_g32_f32", "q4_0", random_row(*find_format("int4_g32_f32"), odd)));
  // A zero point times a scale of few digits is an offset that fp16 holds.
  const auto zero = [](Grid& grid, auto& random) {
    grid.d = 0.5f, grid.dmin = float(int(random() % 16) - 8);
  };
  EXPECT_TRUE(converts("int4_g32_zp", "q4_1", random_row(*find_format("int4_g32_zp"), zero)));
  EXPECT_FALSE(converts("int4_g32_zp", "q4_0", random_row(*find_format("int4_g32_zp"), zero)));
  const auto digits = [](Grid& grid, auto&) { grid.d = 1 + 0x1p-10f, grid.dmin = 5; };
  EXPECT_FALSE(converts("int4_g32_zp", "q4_1", random_row(*find_format("int4_g32_zp"), digits)));
}

TEST(Exact, OtherLatticesAreRefused) {
  const auto allowed = [](const char* from, const char* to) {
    return may_convert_exactly(*find_format(from), *find_format(to));
  };
  EXPECT_FALSE(allowed("int8_g32", "q4_0"));
  EXPECT_FALSE(allowed("nf4", "q4_0"));
  EXPECT_FALSE(allowed("int4_g32", "q4_k"));
  EXPECT_FALSE(allowed("int4_g32", "iq4_nl"));
  EXPECT_FALSE(allowed("int4_g32", "int4_g64"));
  EXPECT_EQ(gguf_format(*find_format("nf4")).id(), "f16");
  EXPECT_EQ(gguf_format(*find_format("int4_g32_zp")).id(), "f16");
  EXPECT_EQ(gguf_format(*find_format("mxfp4")).id(), "mxfp4");
}

}  // namespace
}  // namespace nibble
