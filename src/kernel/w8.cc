// Quantized weights with a byte a code: [columns/4][16 rows][4 columns].
#include "kernel/coded.h"

namespace nibble::NIBBLE_ISA {
namespace {

struct W8 {
  static void multiply_fast(const PackedView* w, const InputView* input, const Work* work) {
    return w->max_code <= 63 ? multiply_coded<DotMedium, Bytes>(w, input, work)
                             : multiply_coded<DotWide, Bytes>(w, input, work);
  }
  static void decode(const PackedView* w, int64_t panel, int64_t begin, int64_t end, float* tile) {
    decode_codes<Bytes>(w, panel, begin, end, tile);
  }
};

}  // namespace

NIBBLE_KERNEL(w8, Coded<W8>)

}  // namespace nibble::NIBBLE_ISA
