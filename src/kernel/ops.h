// The operations of a transformer that are not products with weights, one implementation for each
// instruction set. The same rules as for kernel.h: C headers only.
#pragma once

#include <stdint.h>

namespace nibble {

/// Attention of one token's queries that share one key-value head. Keys and values lie as fp16
/// [position][head_dim].
struct AttendArgs {
  const float* q;        // [group][head_dim]
  float* out;            // [group][head_dim]
  const uint16_t* keys;  // fp16, position p at keys + p * stride
  const uint16_t* values;
  int64_t stride;      // fp16 values from one position to the next
  int64_t begin, end;  // positions that are attended to: [begin, end)
  int group, head_dim;
  float scale, cap;  // cap: soft cap of the scores, 0: none
  float* scratch;    // group * (end - begin) values
};

struct Ops {
  const char* isa;
  /// out = x / sqrt(mean(x^2) + eps) * w
  void (*rms_norm)(const float* x, const float* w, float* out, int64_t n, float eps);
  void (*silu_mul)(const float* a, const float* b, float* out, int64_t n);  // silu(a) * b
  void (*gelu_mul)(const float* a, const float* b, float* out, int64_t n);  // gelu_tanh(a) * b
  void (*add)(const float* a, const float* b, float* out, int64_t n);
  void (*softcap)(float* x, int64_t n, float cap);  // cap * tanh(x / cap)
  /// Rotates `heads` heads of `head_dim` values; cosines and sines are [head_dim/2]. neighbours:
  /// pairs (2i, 2i+1), else (i, i + head_dim/2).
  void (*rope)(float* x, int64_t heads, int64_t head_dim, const float* cosines, const float* sines,
               bool neighbours);
  void (*attend)(const AttendArgs* args);
  void (*f32_to_fp16)(const float* in, uint16_t* out, int64_t n);
  void (*fp16_to_f32)(const uint16_t* in, float* out, int64_t n);
  /// Rounds to 8 bits: per 32 values a scale (max |x| / 127), per 16 values the sum of what the
  /// codes stand for.
  void (*quantize_input)(const float* x, int64_t n, int8_t* codes, float* scales, float* sums);
};

/// The operations of the active instruction set.
const Ops& ops();

}  // namespace nibble
