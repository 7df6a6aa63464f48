// Products of panels in bytes with several tokens.
#include "kernel/bytes.h"

#include "kernel/sums.h"

namespace nibble::NIBBLE_ISA {
namespace {

/// fn(first, count) for the tiles of the tokens of a piece of work.
template <class Dot, class Fn>
NIBBLE_INLINE void for_work(const Work* work, const Fn& fn) {
  for_tiles<Dot::kTokens>(work->token_end - work->token_begin, fn);
}

template <class Dot, int kSub, Scaling kScaling>
void arrange(const BytesWork& b) {
  static_assert(Dot::kTokens * sizeof(typename Dot::Input) <= kPanelRows);
  const Arranger<Dot, kSub, kScaling> arranger(b.w, b.input, b.arranged);
  for_work<Dot>(b.work, [&](int64_t t, auto count) {
    arranger.template arrange<decltype(count)::n>(b.work->token_begin + t, t, b.spare);
  });
}

template <int P, class Dot, int kSub, Scaling kScaling, bool kOffset>
NIBBLE_INLINE void multiply_panels(const BytesWork& b) {
  const Arranger<Dot, kSub, kScaling> arranger(b.w, b.input, b.arranged);
  const Bytes reader(b.w);
  const BlockSpan span(b.w, b.begin / kUnitColumns, b.end / kUnitColumns);
  const int64_t stride = (b.work->token_end - b.work->token_begin) * kPanelRows;
  for_work<Dot>(
      b.work, [&](int64_t t, auto count) __attribute__((always_inline)) {
        constexpr int n = decltype(count)::n;
        const int64_t token = b.work->token_begin + t;
        float* const kept = b.sums + t * kPanelRows;
        F sum[P][n];
        load_sums(kept, stride, b.begin == 0, sum);
        coded_tile<P, n, kSub, kScaling, kOffset, Dot>(b.w, span, b.panel, reader, b.codes,
                                                       b.stride,
                                                       arranger.template tile<n>(token, t), sum);
        put_sums(b.w, b.work, b.panel, token, kept, stride, b.end == b.w->columns, sum);
      });
}

template <class Dot, int kSub, Scaling kScaling, bool kOffset>
void multiply(const BytesWork& b) {
  if (b.panels == 1) return multiply_panels<1, Dot, kSub, kScaling, kOffset>(b);
  if constexpr (kTilePanels == 2) multiply_panels<2, Dot, kSub, kScaling, kOffset>(b);
}

template <class Dot>
BytesProduct product_of(const PackedView* w) {
  return for_scaling(w, [](auto sub, auto scaling, auto offset) -> BytesProduct {
    constexpr int kSub = decltype(sub)::n;
    constexpr Scaling kScaling = decltype(scaling)::value;
    return {&arrange<Dot, kSub, kScaling>, &multiply<Dot, kSub, kScaling, decltype(offset)::value>};
  });
}

}  // namespace

BytesProduct bytes_product(const PackedView* w) {
  return w->max_code <= 15    ? product_of<DotSmall>(w)
         : w->max_code <= 63  ? product_of<DotMedium>(w)
         : w->max_code <= 127 ? product_of<DotLarge>(w)
                              : product_of<DotWide>(w);
}

}  // namespace nibble::NIBBLE_ISA
