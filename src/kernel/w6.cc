// Quantized weights with 6 bits a code.
#include "kernel/coded.h"

namespace nibble::NIBBLE_ISA {

NIBBLE_KERNEL(w6, Coded<Packing::w6>)

}  // namespace nibble::NIBBLE_ISA
