// Quantized weights with 3 bits a code.
#include "kernel/coded.h"

namespace nibble::NIBBLE_ISA {

NIBBLE_KERNEL(w3, Coded<Packing::w3>)

}  // namespace nibble::NIBBLE_ISA
