// Quantized weights with half a byte a code: [columns/8][16 rows][4 bytes], byte i of a row holds
// column i of the 8 in its low half and column 4 + i in its high half.
#include "kernel/coded.h"

namespace nibble::NIBBLE_ISA {
namespace {

struct W4 {
  static void multiply_fast(const PackedView* w, const InputView* input, const Work* work) {
    return w->table ? multiply_coded<DotWide, NamedHalves>(w, input, work)
                    : multiply_coded<DotSmall, Halves>(w, input, work);
  }
  static void decode(const PackedView* w, int64_t panel, int64_t begin, int64_t end, float* tile) {
    w->table ? decode_codes<NamedHalves>(w, panel, begin, end, tile)
             : decode_codes<Halves>(w, panel, begin, end, tile);
  }
};

}  // namespace

NIBBLE_KERNEL(w4, Coded<W4>)

}  // namespace nibble::NIBBLE_ISA
