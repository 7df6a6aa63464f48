// Sixteen lanes of one instruction set, one lane for each row of a panel. Everything the kernels do
// is written once on these types; a new instruction set is one header like the ones included here:
//
//   F        16 floats      load, store, splat, zero, fma (a * b + c, rounded once), add, sub, mul,
//                           div, max and min (NaN in b wins), load_fp16, load_bf16, store_fp16,
//                           hsum, hmax, power_of_two (what is left of |x| without its mantissa)
//   I        16 int32       splat_int, add_int, mul_int, to_float, as_float (the same
//                           bits), round_int (nearest even), pow2 (2^i for -126 <= i <= 127),
//                           load_i8, load_u8, store_codes
//            as pairs       load_pairs (of bytes [2][16], the first ones low), dot_pairs (adds the
//            of 16 bits     products of both halves)
//   Codes    16 rows x 4 columns of bytes: load_codes, store_bytes, move_bits (of every byte, up or
//            down, then those of a mask), merge_bits (the same into zeros of other codes), lookup
//   DotSmall, DotMedium, DotLarge, DotWide
//            sums of products of unsigned codes (up to 15, 63, 127, 255) with 8-bit inputs, exact:
//            8 columns are taken in kSteps steps, operand() being what a step takes of the codes
//            and inputs() what it takes of the inputs, in words of 4 bytes; total() adds `lacks`,
//            as start() does if it can; settle() after every 32 columns of a longer sum; the codes
//            are taken less kShift; sums for kTokens tokens and kTilePanels panels fit the
//            registers
//   CodeScale(scale, bias, least) of 16 rows: of() turns codes into (code + bias) * scale - least,
//            bytes that must not overflow; kScalesCodes: products of these are worth it
//   StepBf16 what is added to a sum at a time where weights and inputs are bf16: kColumns columns,
//            the product of the odd column of a pair before that of the even one, each rounded as a
//            float32 fma; weights() of step j of a panel and inputs() are rounded to nearest even
//   kTile, kTilePanels
//            tokens and panels of a tile of sums that registers hold
//   kTokensInPlace
//            tokens whose products read packed codes where they lie, at most
#pragma once

#include <stdint.h>
#include <string.h>

#include "kernel/kernel.h"

#define NIBBLE_INLINE static inline __attribute__((always_inline))
#define NIBBLE_METHOD inline __attribute__((always_inline))

#if defined(NIBBLE_ISA_avx512vnni) || defined(NIBBLE_ISA_avx512bf16)
#define NIBBLE_VNNI
#endif
#if defined(NIBBLE_ISA_avx512bf16)
#define NIBBLE_BF16
#endif

#if defined(NIBBLE_ISA_avx512)
#include "kernel/simd_avx512.h"
#elif defined(NIBBLE_ISA_avx2)
#include "kernel/simd_avx2.h"
#elif defined(NIBBLE_ISA_neon)
#include "kernel/simd_neon.h"
#else
#include "kernel/simd_scalar.h"
#endif
