// Quantized weights with 4 bits a code.
#include "kernel/coded.h"

namespace nibble::NIBBLE_ISA {

NIBBLE_KERNEL(w4, Coded<Packing::w4>)

}  // namespace nibble::NIBBLE_ISA
