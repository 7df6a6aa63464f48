// Weights as bf16, panels of [columns][16].
#include "kernel/dense.h"

namespace nibble::NIBBLE_ISA {
using Kind = Dense<PanelBf16, uint16_t>;
NIBBLE_KERNEL(bf16, Kind)
}  // namespace nibble::NIBBLE_ISA
