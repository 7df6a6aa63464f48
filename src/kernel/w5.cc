// Quantized weights with 5 bits a code.
#include "kernel/coded.h"

namespace nibble::NIBBLE_ISA {

NIBBLE_KERNEL(w5, Coded<Packing::w5>)

}  // namespace nibble::NIBBLE_ISA
