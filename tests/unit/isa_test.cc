// NIBBLE_ISA chooses the instruction set, once a process: each case runs in a child.
#include <gtest/gtest.h>

#include <cstdlib>

#include "base/cpu.h"
#include "kernel/matrix.h"
#include "kernel/ops.h"

namespace nibble {
namespace {

Result<Matrix> pack_something() {
  ThreadPool pool(1);
  const std::vector<std::byte> bytes(4 * 18);
  return Matrix::pack(*find_format("q4_0"), 4, 32, bytes, pool);
}

/// Exits with 0 if matrix and operations use `isa`, 2 if there is an error that names NIBBLE_ISA.
[[noreturn]] void exit_with_isa(const char* isa) {
  setenv("NIBBLE_ISA", isa, 1);
  const auto matrix = pack_something();
  if (!matrix) std::exit(matrix.error().message().find("NIBBLE_ISA") != std::string::npos ? 2 : 3);
  std::exit(
      matrix->kernel().isa == std::string_view(isa) && ops().isa == std::string_view(isa) ? 0 : 1);
}

TEST(Isa, TheEnvironmentForcesOne) {
  for (const char* isa : {"scalar", "avx2", "avx512", "avx512vnni", "avx512bf16", "neon"})
    EXPECT_EXIT(exit_with_isa(isa), testing::ExitedWithCode(isa_runs(isa) ? 0 : 2), "") << isa;
}

TEST(Isa, AnUnknownNameIsAnError) {
  EXPECT_EXIT(exit_with_isa("sse9"), testing::ExitedWithCode(2), "");
}

[[noreturn]] void exit_with_best() {
  unsetenv("NIBBLE_ISA");
  const auto matrix = pack_something();
  int best = 0;
  for (const Kernel* kernel : kernel_registry())
    if (isa_runs(kernel->isa) && isa_pays(kernel->isa))
      best = std::max(best, isa_rank(kernel->isa));
  std::exit(matrix && isa_rank(matrix->kernel().isa) == best ? 0 : 1);
}

TEST(Isa, TheBestSupportedOneIsTheDefault) {
  EXPECT_EXIT(exit_with_best(), testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace nibble
