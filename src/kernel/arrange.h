// The 8-bit inputs of a product as its tiles of tokens read them.
#pragma once

#include "kernel/tile.h"

namespace nibble::NIBBLE_ISA {

/// Which sums of codes times inputs, exact integers, are scaled.
enum class Scaling {
  block,       // those of blocks that are one sub-block, with d
  sub_blocks,  // those of sub-blocks with their integer scales, and then the block's with d
  whole,       // those of blocks of several sub-blocks, which have no scales, with d
};

/// Sums of a block that is one sub-block begin at the bits of this float, whose last bit is 1:
/// below 2^22 in size, they end at those of the float that lies so far from it.
inline constexpr float kFirstSum = 0x1.8p23f;
inline constexpr int32_t kFirstSumBits = __builtin_bit_cast(int32_t, kFirstSum);

/// The inputs of a tile of T tokens.
struct TileInputs {
  const uint8_t* words;  // [columns * sizeof(Dot::Input) / 4][T] of 4 bytes
  // [columns/sub, or /block: whole][T]: what sums of code products lack, and kFirstSumBits: block
  const int32_t* lacks;
  const float* scales;  // [columns / max(block, 32)][T]
  // What offsets are multiplied with. sub_min: [columns/sub/2][T] pairs of sums of inputs, of 16
  // bits each. zero: [columns/block][T] sums, negated. dmin alone: the same times the scale, float.
  const int32_t* sums;
};

/// Arranges the inputs of a product, tile by tile, for weights with scales for kSub columns.
template <class Dot, int kSub, Scaling kScaling>
class Arranger {
 public:
  Arranger(const PackedView* w, const InputView* input, void* out)
      : w_(w),
        input_(input),
        out_(static_cast<uint8_t*>(out)),
        words_(w->columns * int64_t(sizeof(typename Dot::Input)) / 4),
        subs_(w->columns / kSub),
        blocks_(w->columns / w->block),
        step_(w->block < 32 ? 1 : w->block / 32),
        lacks_(kScaling == Scaling::whole ? blocks_ : subs_) {}

  /// Where the inputs of T tokens from `token` on are, the t-th of the product and following.
  template <int T>
  TileInputs tile(int64_t token, int64_t t) const {
    uint8_t* words = out_ + 4 * t * (words_ + 2 * subs_ + blocks_);
    auto* lacks = reinterpret_cast<int32_t*>(words) + T * words_;
    auto* scales = reinterpret_cast<float*>(lacks + T * lacks_);
    auto* sums = reinterpret_cast<int32_t*>(scales + T * (w_->columns / 32 / step_));
    if (kAsTheyAre<T>) return {reinterpret_cast<const uint8_t*>(codes(token)), lacks, scales, sums};
    return {words, lacks, scales, sums};
  }

  /// Puts them there. `wide` is room for inputs that are widened.
  template <int T>
  void arrange(int64_t token, int64_t t, void* wide) const {
    const TileInputs at = tile<T>(token, t);
    auto* words = const_cast<uint8_t*>(at.words);
    if (T > 1)
      interleave(Dot::inputs(codes(token), T * w_->columns, wide), 4 * words_, T, words_, words);
    else if (!kAsTheyAre<T>)
      Dot::inputs(codes(token), w_->columns, words);
    for (int i = 0; i < T; ++i) put_numbers<T>(token + i, i, at);
  }

 private:
  template <int T>
  static constexpr bool kAsTheyAre = T == 1 && sizeof(typename Dot::Input) == 1;

  const int8_t* codes(int64_t token) const { return input_->codes + token * w_->columns; }
  /// Of the columns of a part of so many.
  static int32_t sum(const int32_t* x_sums, int64_t part, int64_t columns) {
    int32_t total = 0;
    for (int64_t i = part * columns / 16; i < (part + 1) * columns / 16; ++i) total += x_sums[i];
    return total;
  }
  static int32_t pair(int32_t low, int32_t high) {
    return int32_t((uint32_t(low) & 0xffffu) | uint32_t(high) << 16);
  }

  template <int T>
  void put_numbers(int64_t token, int i, const TileInputs& at) const {
    const int32_t* x_sums = input_->code_sums + token * (w_->columns / 16);
    const float* x_scales = input_->scales + token * (w_->columns / 32);
    auto* lacks = const_cast<int32_t*>(at.lacks) + i;
    auto* scales = const_cast<float*>(at.scales) + i;
    auto* sums = const_cast<int32_t*>(at.sums) + i;
    const int32_t bias = w_->bias + Dot::kShift;
    const int32_t first = kScaling == Scaling::block ? kFirstSumBits : 0;
    const int64_t sub = w_->sub, block = w_->block;
    for (int64_t s = 0; s < lacks_; ++s)
      lacks[s * T] = first + bias * sum(x_sums, s, kScaling == Scaling::whole ? block : kSub);
    for (int64_t s = 0; s < w_->columns / 32 / step_; ++s) scales[s * T] = x_scales[s * step_];
    if (w_->sub_min)
      for (int64_t s = 0; s < w_->columns / sub / 2; ++s)
        sums[s * T] = pair(sum(x_sums, 2 * s, sub), sum(x_sums, 2 * s + 1, sub));
    else if (w_->zero || w_->dmin)
      for (int64_t b = 0; b < blocks_; ++b) {
        const int32_t total = sum(x_sums, b, block);
        const float product = x_scales[b * step_] * float(total);
        if (w_->zero)
          sums[b * T] = -total;
        else
          memcpy(sums + b * T, &product, sizeof product);
      }
  }

  const PackedView* w_;
  const InputView* input_;
  uint8_t* out_;
  int64_t words_, subs_, blocks_, step_, lacks_;
};

}  // namespace nibble::NIBBLE_ISA
