// Weights as f32, panels of [columns][16].
#include "kernel/dense.h"

namespace nibble::NIBBLE_ISA {
using Kind = Dense<PanelF32, float>;
NIBBLE_KERNEL(f32, Kind)
}  // namespace nibble::NIBBLE_ISA
