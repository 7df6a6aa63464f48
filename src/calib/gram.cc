// Sums of x x^T with the dot products of pairs of bfloat16 values that some AVX-512 processors
// have.
#include "calib/gram.h"

#if defined(NIBBLE_ISA_avx512bf16) && defined(__AVX512BF16__)  // not emulated
#include <immintrin.h>
#define NIBBLE_BF16
#endif

#define NIBBLE_STRING_(x) #x
#define NIBBLE_STRING(x) NIBBLE_STRING_(x)

namespace nibble::NIBBLE_ISA {
namespace {

#ifdef NIBBLE_BF16

constexpr int kLanes = 16, kVectors = kGramColumns / kLanes;
constexpr int kRows = 8;  // of the sum that stay in registers

__mmask16 lanes(int columns, int vector) {
  const int left = columns - vector * kLanes;
  return __mmask16(left >= kLanes ? 0xffff : left > 0 ? (1 << left) - 1 : 0);
}

void pack(const float* values, int64_t stride, int64_t tokens, int columns, uint32_t* panel,
          float* largest) {
  __m512 most[kVectors];
  for (int v = 0; v < kVectors; ++v)
    most[v] = _mm512_maskz_loadu_ps(lanes(columns, v), largest + v * kLanes);
  for (int64_t t = 0; t < tokens; t += 2)
    for (int v = 0; v < kVectors; ++v, panel += kLanes) {
      const float* from = values + t * stride + v * kLanes;
      const __mmask16 mask = lanes(columns, v), next = t + 1 < tokens ? mask : __mmask16(0);
      const __m512 x = _mm512_maskz_loadu_ps(mask, from);
      const __m512 y = _mm512_maskz_loadu_ps(next, from + stride);
      const __m512i low = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(x));
      const __m512i high = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(y));
      _mm512_storeu_si512(panel, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
      most[v] = _mm512_max_ps(most[v], _mm512_max_ps(_mm512_abs_ps(x), _mm512_abs_ps(y)));
    }
  for (int v = 0; v < kVectors; ++v)
    _mm512_mask_storeu_ps(largest + v * kLanes, lanes(columns, v), most[v]);
}

void add(const uint32_t* a, int a_columns, const uint32_t* b, int b_columns, int64_t pairs,
         float* out, int64_t stride) {
  for (int row = 0; row < a_columns; row += kRows) {
    __m512 sum[kRows][kVectors];
    for (int r = 0; r < kRows && row + r < a_columns; ++r)
      for (int v = 0; v < kVectors; ++v)
        __builtin_prefetch(out + (row + r) * stride + v * kLanes, 1);
    for (int r = 0; r < kRows; ++r)
      for (int v = 0; v < kVectors; ++v) sum[r][v] = _mm512_setzero_ps();
    for (int64_t p = 0; p < pairs; ++p) {
      __m512bh y[kVectors];
      for (int v = 0; v < kVectors; ++v)
        y[v] = (__m512bh)_mm512_loadu_si512(b + p * kGramColumns + v * kLanes);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const __m512bh x = (__m512bh)_mm512_set1_epi32(int(a[p * kGramColumns + row + r]));
        for (int v = 0; v < kVectors; ++v) sum[r][v] = _mm512_dpbf16_ps(sum[r][v], x, y[v]);
      }
    }
    for (int r = 0; r < kRows && row + r < a_columns; ++r)
      for (int v = 0; v < kVectors; ++v) {
        float* to = out + (row + r) * stride + v * kLanes;
        const __mmask16 mask = lanes(b_columns, v);
        _mm512_mask_storeu_ps(to, mask, _mm512_add_ps(_mm512_maskz_loadu_ps(mask, to), sum[r][v]));
      }
  }
}

#else

constexpr auto pack = nullptr;
constexpr auto add = nullptr;

#endif

}  // namespace

const Gram& gram_gram() {
  static constexpr Gram all = {NIBBLE_STRING(NIBBLE_ISA), pack, add};
  return all;
}

}  // namespace nibble::NIBBLE_ISA
