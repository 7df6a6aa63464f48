// Which instruction set the kernels use.
#pragma once

#include <cstdint>
#include <string_view>

namespace nibble {

/// True if this build has kernels for `isa` and this processor (and operating system) can run them:
/// "scalar", "avx2" (with FMA, F16C), "avx512" (F, BW, DQ, VL), "avx512vnni", "avx512bf16" (with
/// VNNI too), "neon" (with dotprod, fp16).
bool isa_runs(std::string_view isa);

/// False if a plainer one is faster here: Intel's processors need twice as long for products of
/// bf16 pairs as for the same products in float32 (measured on Emerald Rapids; bits are the same).
bool isa_pays(std::string_view isa);

/// Preference of an instruction set, higher is better, -1 for a name that this build does not have.
int isa_rank(std::string_view isa);

/// The instruction set in use: the best one that runs and pays, or the one that the environment
/// variable NIBBLE_ISA names. A NIBBLE_ISA that is unknown or does not run here yields "" (callers
/// turn it into an error).
std::string_view active_isa();

/// Bytes of memory that this machine has.
std::uint64_t physical_memory();

}  // namespace nibble
