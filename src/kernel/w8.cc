// Quantized weights with a byte a code.
#include "kernel/coded.h"

namespace nibble::NIBBLE_ISA {

NIBBLE_KERNEL(w8, Coded<Packing::w8>)

}  // namespace nibble::NIBBLE_ISA
