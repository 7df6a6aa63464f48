#include "base/cpu.h"

#include <unistd.h>

#include <cstdlib>
#if defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#elif defined(__x86_64__)
#include <cpuid.h>
#endif

namespace nibble {
namespace {

constexpr std::string_view kIsas[] = {NIBBLE_BUILT_ISAS};  // worst first, scalar always

#if defined(__x86_64__)
/// Clang 14 does not know the name "f16c", so the processor is asked directly: leaf 1, ECX bit 29.
bool cpu_has_f16c() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_F16C);
}
#endif

}  // namespace

int isa_rank(std::string_view isa) {
  for (int i = 0; i < int(std::size(kIsas)); ++i)
    if (kIsas[i] == isa) return i;
  return -1;
}

bool isa_runs(std::string_view isa) {
  if (isa_rank(isa) < 0) return false;
  if (isa == "scalar") return true;
#if defined(__x86_64__)
  const bool avx2 =
      __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && cpu_has_f16c();
  if (isa == "avx2") return avx2;
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (isa.starts_with("avx512")) {
    if (!avx2 || NIBBLE_EMULATE_AVX512) return avx2;
    const bool vnni = __builtin_cpu_supports("avx512vnni");
    return avx512 && (isa == "avx512" || vnni) &&
           (isa != "avx512bf16" || __builtin_cpu_supports("avx512bf16"));
  }
#elif defined(__aarch64__)
  constexpr unsigned long needed = HWCAP_ASIMDDP | HWCAP_ASIMDHP;
  if (isa == "neon") return (getauxval(AT_HWCAP) & needed) == needed;
#endif
  return false;
}

bool isa_pays([[maybe_unused]] std::string_view isa) {
#if defined(__x86_64__)
  if (isa == "avx512bf16") return !__builtin_cpu_is("intel");
#endif
  return true;
}

std::string_view active_isa() {
  static const std::string_view isa = []() -> std::string_view {
    if (const char* forced = std::getenv("NIBBLE_ISA"); forced && *forced) {
      for (const auto known : kIsas)
        if (known == forced) return isa_runs(known) ? known : "";
      return "";
    }
    for (int i = int(std::size(kIsas)) - 1; i > 0; --i)
      if (isa_runs(kIsas[i]) && isa_pays(kIsas[i])) return kIsas[i];
    return kIsas[0];
  }();
  return isa;
}

std::uint64_t physical_memory() {
  return std::uint64_t(::sysconf(_SC_PHYS_PAGES)) * std::uint64_t(::sysconf(_SC_PAGESIZE));
}

}  // namespace nibble
