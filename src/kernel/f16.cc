// Weights as f16, panels of [columns][16].
#include "kernel/dense.h"

namespace nibble::NIBBLE_ISA {
using Kind = Dense<PanelFp16, uint16_t>;
NIBBLE_KERNEL(f16, Kind)
}  // namespace nibble::NIBBLE_ISA
