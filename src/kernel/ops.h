// The operations of a transformer that are not products with weights, one implementation for each
// instruction set. The same rules as for kernel.h: C headers only.
#pragma once

#include <stdint.h>

namespace nibble {

/// Causal attention of `tokens` consecutive tokens with the queries of one key-value head. The
/// token at position p sees positions p - window + 1 .. p (window 0: 0 .. p), which are all in the
/// cache.
///
/// The cache lies in pages of kPagePositions positions. A page holds the keys of the head at byte
/// key_offset, and its values at value_offset, written by CacheOps::store of the same type: in f32
/// and f16 keys in panels of 16 positions, [position / 16][head_dim][16], values as
/// [position][head_dim]; in codes as coded_cache.h says.
struct AttendArgs {
  const float* q;                // query h of token t: q + t * q_stride + h * head_dim, h < group
  float* out;                    // likewise with out_stride
  int64_t q_stride, out_stride;  // floats from one token to the next
  const uint8_t* const* pages;   // of the positions from 0 on
  int64_t key_offset, value_offset;
  int64_t position;  // of the first token
  int64_t tokens, window;
  int group, head_dim;
  float scale, cap;  // cap: soft cap of the scores, 0: none
  float* scratch;    // attend_scratch(...) floats
};

/// Positions of a page of the cache: a multiple of 16.
inline constexpr int64_t kPagePositions = 32;

/// Floats of scratch that attention needs. Work on at most kAttendTokens tokens at a time: more
/// gain nothing.
inline constexpr int64_t kAttendTokens = 16;
inline constexpr int64_t kAttendStep = 64;  // positions whose keys are widened at a time
inline int64_t attend_scratch(int64_t tokens, int group, int head_dim, int64_t position) {
  const int64_t seen = (position + tokens + 15) / 16 * 16;
  const int64_t width = (head_dim + 31) / 32 * 32;
  return tokens * group * (seen + 2 * width) + 16 * seen + kAttendStep * width;
}

/// A key-value cache whose numbers are of one type.
struct CacheOps {
  const char* type;
  int bits;   // of a number
  int block;  // numbers of a position that share a scale of 16 bits; 0: none do
  /// Writes key and value (head_dim floats each) of one position of a page into the keys and values
  /// of their head.
  void (*store)(const float* key, const float* value, int head_dim, void* keys, void* values,
                int64_t position);
  void (*attend)(const AttendArgs* args);
};

/// Bytes of the keys, or the values, of one head in a page.
inline int64_t cache_part_bytes(const CacheOps& cache, int64_t head_dim) {
  if (cache.block == 0) return kPagePositions * head_dim * cache.bits / 8;
  const int64_t blocks = (head_dim + cache.block - 1) / cache.block;
  return kPagePositions * blocks * (cache.block * cache.bits / 8 + 2);
}

inline constexpr int kCacheTypes = 4;

struct Ops {
  const char* isa;
  /// out = x / sqrt(mean(x^2) + eps) * w. In place allowed.
  void (*rms_norm)(const float* x, const float* w, float* out, int64_t n, float eps);
  void (*silu_mul)(const float* a, const float* b, float* out, int64_t n);  // silu(a) * b
  void (*gelu_mul)(const float* a, const float* b, float* out, int64_t n);  // gelu_tanh(a) * b
  void (*add)(const float* a, const float* b, float* out, int64_t n);
  void (*softcap)(float* x, int64_t n, float cap);  // cap * tanh(x / cap)
  /// Rotates `heads` heads of `head_dim` values; cosines and sines are [head_dim/2]. neighbours:
  /// pairs (2i, 2i+1), else (i, i + head_dim/2).
  void (*rope)(float* x, int64_t heads, int64_t head_dim, const float* cosines, const float* sines,
               bool neighbours);
  CacheOps caches[kCacheTypes];  // the most exact first
  void (*f32_to_fp16)(const float* in, uint16_t* out, int64_t n);
  void (*fp16_to_f32)(const uint16_t* in, float* out, int64_t n);
  /// Rounds to 8 bits, n a multiple of 32, in blocks of `block` values (a multiple of 32) that
  /// share a scale (max |x| / 127, as fp16 holds it for blocks of 32; NaN if any value is not
  /// finite). Scales are written for every 32 values, sums of the codes for every 16.
  void (*quantize_input)(const float* x, int64_t n, int64_t block, int8_t* codes, float* scales,
                         int32_t* code_sums);
  /// The values as kernels of f16 and bf16 multiply them, rounded to bf16, to nearest even: n /
  /// step floats of n values (n even), each with what a step of StepBf16 (simd.h) takes of a token.
  struct {
    int step;  // 1 or 2
    void (*round)(const float* x, float* out, int64_t n);
  } bf16;
  /// Products of 8-bit codes, all in registers: what the processor can do at best. Returns how many
  /// multiplications and additions it has done.
  int64_t (*peak_int8)(int64_t rounds);
  int64_t (*peak_bf16)(int64_t rounds);  // the same of bf16, as kernels of f16 and bf16 multiply
};

/// The operations of the active instruction set (scalar if NIBBLE_ISA names none that runs here).
const Ops& ops();

}  // namespace nibble
