// Quantized weights with 2 bits a code.
#include "kernel/coded.h"

namespace nibble::NIBBLE_ISA {

NIBBLE_KERNEL(w2, Coded<Packing::w2>)

}  // namespace nibble::NIBBLE_ISA
