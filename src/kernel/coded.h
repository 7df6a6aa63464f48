// Kernels of the packings that hold codes and scales: w2 to w8.
#pragma once

#include "kernel/bytes.h"
#include "kernel/sums.h"

namespace nibble::NIBBLE_ISA {

/// The same where codes name entries of a table.
template <Packing kPacking>
struct NamedReader : Reader<kPacking> {
  const uint8_t* table;
  explicit NamedReader(const PackedView* w) : Reader<kPacking>(w), table(w->table) {}
  NIBBLE_METHOD void read(const uint8_t* unit, int g, Codes& c0, Codes& c1) const {
    Reader<kPacking>::read(unit, g, c0, c1);
    c0 = lookup(c0, table), c1 = lookup(c1, table);
  }
};

/// Fetches codes ahead of where they are read.
template <class From>
struct ReaderAhead : From {
  using From::From;
  NIBBLE_METHOD void read(const uint8_t* unit, int g, Codes& c0, Codes& c1) const {
    constexpr int kLines = int(From::kUnitBytes / 64), kReads = kUnitColumns / 8;
    for (int line = g * kLines / kReads; line < (g + 1) * kLines / kReads; ++line)
      __builtin_prefetch(unit + kPrefetch + 64 * line);
    From::read(unit, g, c0, c1);
  }
};

struct Unscaled {
  NIBBLE_METHOD Codes of(const Codes& c) const { return c; }
};

/// Codes as w8 has them, those of every kSub columns as scale_of(sub-block) turns them.
template <int kSub, class From, class ScaleOf>
NIBBLE_INLINE void expand(const From& reader, const uint8_t* codes, int64_t columns, uint8_t* bytes,
                          const ScaleOf& scale_of) {
  for (int64_t s = 0; s < columns / kSub; codes += From::kUnitBytes)
#pragma GCC unroll 2
    for (int h = 0; h < kUnitColumns / kSub; ++h, ++s) {
      const auto scale = scale_of(s);
#pragma GCC unroll 4
      for (int g = 0; g < kSub / 8; ++g, bytes += 128) {
        Codes c0, c1;
        reader.read(codes, h * (kSub / 8) + g, c0, c1);
        store_bytes(bytes, scale.of(c0)), store_bytes(bytes + 64, scale.of(c1));
      }
    }
}

/// The view of a matrix whose codes take in the scales of their sub-blocks as they are expanded, so
/// that sums need no scaling before the end of a block. False if such codes would not fit a byte.
inline bool with_scaled_codes(const PackedView* w, PackedView& out) {
  if (!kScalesCodes || !w->sub_scale) return false;
  const int first = w->bias, last = w->bias + w->max_code, low = w->scale_min, high = w->scale_max;
  const int corners[] = {first * low, first * high, last * low, last * high};
  int least = corners[0], most = corners[0];
  for (const int each : corners) {
    if (each < least) least = each;
    if (each > most) most = each;
  }
  if (most - least > 255) return false;
  out = *w;
  out.sub_scale = nullptr, out.bias = least, out.max_code = most - least;
  return true;
}

/// Codes for such a view; `scales` are those of their first sub-block and following.
template <class From>
NIBBLE_INLINE void expand_scaled(const From& reader, const PackedView* w, const PackedView& scaled,
                                 const uint8_t* codes, const int8_t* scales, int64_t columns,
                                 uint8_t* bytes) {
  const auto scale_of = [&](int64_t s) __attribute__((always_inline)) {
    return CodeScale(load_i8(scales + s * kPanelRows), w->bias, scaled.bias);
  };
  if (w->sub == 16) return expand<16>(reader, codes, columns, bytes, scale_of);
  expand<32>(reader, codes, columns, bytes, scale_of);
}

/// fn(sub-block, scale, offset): what is effective for the 16 rows in sub-blocks [begin, end) of a
/// panel.
template <class Fn>
NIBBLE_INLINE void for_scales(const PackedView* w, int64_t panel, int64_t begin, int64_t end,
                              const Fn& fn) {
  const int64_t subs = w->block / w->sub, blocks = w->columns / w->block;
  const int64_t first = panel * blocks * kPanelRows;
  int64_t b = begin / subs;
  for (int64_t s = begin; s < end; ++b) {
    const F d = load_number(w, w->d, first + b * kPanelRows);
    const F zero_point = w->zero ? to_float(load_i8(w->zero + first + b * kPanelRows)) : zero();
    const F dmin = w->dmin ? load_number(w, w->dmin, first + b * kPanelRows) : zero();
    const int64_t block_end = (b + 1) * subs < end ? (b + 1) * subs : end;
    for (; s < block_end; ++s) {
      const int64_t at = first * subs + s * kPanelRows;
      F scale = d, offset = dmin;
      if (w->sub_scale) scale = mul(mul(d, to_float(load_i8(w->sub_scale + at))), splat(w->unit));
      if (w->zero) offset = mul(splat(-1), mul(scale, zero_point));
      if (w->sub_min) offset = mul(splat(-1), mul(dmin, to_float(load_u8(w->sub_min + at))));
      fn(s, scale, offset);
    }
  }
}

/// Products of T tokens that read codes where they lie: with one memory is the limit, and with a
/// few expanding costs more than it saves. Each T is a function of its own: one with tiles of 4, 2
/// and 1 was 30% slower.
template <int T, int kSub, Scaling kScaling, bool kOffset, class Dot, class Reader>
void multiply_few(const PackedView* w, const InputView* input, const Work* work) {
  uint8_t* const wide = static_cast<uint8_t*>(work->scratch);
  const Arranger<Dot, kSub, kScaling> arranger(w, input, wide + (T > 1 ? spare_bytes(w) : 0));
  if (!work->arranged) arranger.template arrange<T>(work->token_begin, 0, wide);
  const TileInputs x = arranger.template tile<T>(work->token_begin, 0);
  const ReaderAhead<Reader> reader(w);
  const BlockSpan span(w, 0, w->columns / kUnitColumns);
  for (int64_t panel = work->panel_begin; panel < work->panel_end; ++panel) {
    const uint8_t* codes = w->weights + panel * span.end * Reader::kUnitBytes;
    F sum[1][T];
    for (F& each : sum[0]) each = zero();
    coded_tile<1, T, kSub, kScaling, kOffset, Dot>(w, span, panel, reader, codes, 0, x, sum);
    for (int t = 0; t < T; ++t) store_rows(w, work, panel, work->token_begin + t, sum[0][t]);
  }
}

template <class Reader>
void multiply_many(const PackedView* w, const InputView* input, const Work* work) {
  constexpr bool kBytes = Reader::kUnitBytes == kUnitColumns * kPanelRows;  // nothing to expand
  const int64_t columns = w->columns, tokens = work->token_end - work->token_begin;
  uint8_t* const bytes = static_cast<uint8_t*>(work->scratch);
  PackedView scaled;
  const bool scales_codes = with_scaled_codes(w, scaled);
  BytesWork b{};
  b.w = scales_codes ? &scaled : w, b.input = input, b.work = work, b.spare = bytes;
  b.sums = reinterpret_cast<float*>(bytes + spare_bytes(w));
  b.arranged = b.sums + kTilePanels * tokens * kPanelRows;
  const bool in_place = kBytes && !scales_codes;
  b.stride = (in_place ? columns : kChunk) * kPanelRows;
  const BytesProduct product = bytes_product(b.w);
  if (!work->arranged) product.arrange(b);
  const Reader reader(w);
  for (b.panel = work->panel_begin; b.panel < work->panel_end; b.panel += b.panels) {
    b.panels = work->panel_end - b.panel < kTilePanels ? work->panel_end - b.panel : kTilePanels;
    for (b.begin = 0; b.begin < columns; b.begin = b.end) {
      b.end = b.begin + kChunk < columns ? b.begin + kChunk : columns;
      const int64_t span = b.end - b.begin, size = span / kUnitColumns * Reader::kUnitBytes;
      for (int64_t p = 0; p < b.panels; ++p) {
        const int64_t at = (b.panel + p) * columns + b.begin;
        const uint8_t* codes = w->weights + at / kUnitColumns * Reader::kUnitBytes;
        if (p == 0) b.codes = in_place ? codes : bytes;
        uint8_t* const out = bytes + p * b.stride;
        if constexpr (kScalesCodes)
          if (scales_codes)
            expand_scaled(reader, w, scaled, codes, w->sub_scale + at / w->sub * kPanelRows, span,
                          out);
        if (!scales_codes && !kBytes)
          expand<kUnitColumns>(reader, codes, span, out, [](int64_t) { return Unscaled(); });
        prefetch(codes + size, size);
      }
      product.multiply(b);
    }
  }
}

template <class Dot, class Reader>
void multiply_coded(const PackedView* w, const InputView* input, const Work* work) {
  const int64_t tokens = work->token_end - work->token_begin;
  if (tokens > kTokensInPlace) return multiply_many<Reader>(w, input, work);
  for_scaling(w, [&](auto sub, auto scaling, auto offset) {
    constexpr int kSub = decltype(sub)::n;
    constexpr Scaling kScaling = decltype(scaling)::value;
    constexpr bool kOffset = decltype(offset)::value;
    for_count<kTokensInPlace>(tokens, [&](auto count) {
      multiply_few<decltype(count)::n, kSub, kScaling, kOffset, Dot, Reader>(w, input, work);
    });
  });
}

/// scale * level + offset, not fused: just what the format decodes to.
template <class Reader>
NIBBLE_INLINE void decode_codes(const PackedView* w, int64_t panel, int64_t begin, int64_t end,
                                float* tile) {
  const Reader reader(w);
  const I bias = splat_int(w->bias);
  const uint8_t* panel_codes = w->weights + panel * w->columns / kUnitColumns * Reader::kUnitBytes;
  for_scales(
      w, panel, begin / w->sub,
      end / w->sub, [&](int64_t s, F scale, F offset) __attribute__((always_inline)) {
        for (int64_t k = s * w->sub; k < (s + 1) * w->sub; k += 8) {
          Codes c[2];
          reader.read(panel_codes + k / kUnitColumns * Reader::kUnitBytes,
                      int(k % kUnitColumns / 8), c[0], c[1]);
          for (int i = 0; i < 8; ++i) {
            const F level = to_float(add_int(column(c[i / 4], i % 4), bias));
            store(tile + (k - begin + i) * kPanelRows, add(mul(scale, level), offset));
          }
        }
      });
}

/// A packing with the products that its codes allow.
template <Packing kPacking>
struct Coded {
  static constexpr int kBits = planes_of(kPacking).low + planes_of(kPacking).high;
  static constexpr bool kNamed = kBits <= 4;  // there may be a table, of 16 entries
  using Plain = Reader<kPacking>;
  using Named = NamedReader<kPacking>;

  static void multiply(const PackedView* w, const InputView* input, const Work* work) {
    if (input->codes) return multiply_fast(w, input, work);
    multiply_decoded<StepF32>(
        w, input->values, work,
        [w](int64_t panel, int64_t begin, int64_t end, float* tile)
            __attribute__((always_inline)) { decode(w, panel, begin, end, tile); });
  }
  static void decode(const PackedView* w, int64_t panel, int64_t begin, int64_t end, float* tile) {
    if constexpr (kNamed)
      if (w->table) return decode_codes<Named>(w, panel, begin, end, tile);
    decode_codes<Plain>(w, panel, begin, end, tile);
  }
  static int64_t scratch_bytes(const PackedView* w, int64_t tokens) {
    const int64_t exact = dense_scratch(w, tokens) * int64_t(sizeof(float));
    const int64_t fast = bytes_scratch(w, tokens);
    return exact > fast ? exact : fast;
  }

 private:
  static void multiply_fast(const PackedView* w, const InputView* input, const Work* work) {
    if constexpr (kNamed)
      if (w->table) return multiply_named(w, input, work);
    if constexpr (kBits <= 4)
      multiply_coded<DotSmall, Plain>(w, input, work);
    else if constexpr (kBits <= 6)
      multiply_coded<DotMedium, Plain>(w, input, work);
    else
      multiply_coded<DotWide, Plain>(w, input, work);
  }
  static void multiply_named(const PackedView* w, const InputView* input, const Work* work) {
    if (w->max_code <= 63) return multiply_coded<DotMedium, Named>(w, input, work);
    if (w->max_code <= 127) return multiply_coded<DotLarge, Named>(w, input, work);
    multiply_coded<DotWide, Named>(w, input, work);
  }
};

}  // namespace nibble::NIBBLE_ISA
