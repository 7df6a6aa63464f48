// Which instruction set the kernels use.
#pragma once

#include <string_view>

namespace nibble {

/// True if this processor (and the operating system) can run kernels built for `isa`:
/// "scalar", "avx2" (with FMA, F16C), "avx512" (F, BW, DQ, VL, VNNI), "neon" (with dotprod, fp16).
bool cpu_supports(std::string_view isa);

/// Preference of an instruction set, higher is better, -1 for a name that does not exist.
int isa_rank(std::string_view isa);

/// The instruction set in use: the best supported one, or the one that the environment variable
/// NIBBLE_ISA names. A NIBBLE_ISA that is unknown or unsupported here yields "" (callers turn it
/// into an error).
std::string_view active_isa();

}  // namespace nibble
