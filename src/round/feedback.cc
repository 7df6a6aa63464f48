// Error feedback inside a block and between blocks. One vector lane is one row.
#include "round/feedback.h"

#include "round/levels.h"
#include "round/vec.h"

namespace nibble::NIBBLE_ISA {
namespace {

constexpr int kMaxColumns = 256;

template <class Integer>
Floats load_integers(const Integer* p) {
  Ints out;
  for (int l = 0; l < kLanes; ++l) out[l] = p[l];
  return __builtin_convertvector(out, Floats);
}

template <class Integer>
void store_integers(Integer* p, Floats x) {
  store_narrow(p, __builtin_convertvector(x, Ints));
}

/// The scales of one block for kLanes rows: read, changed, and written back.
template <class Levels>
struct Lanes {
  Lanes(const SearchSpec& s, const SearchResult& block, int lane) : spec(s), levels(s) {
    d = load(block.d + lane), dmin = load(block.dmin + lane);
    for (int i = 0; i < (s.nested ? s.block / s.sub : 0); ++i) {
      factor[i] = load_integers(block.sub_scale[i] + lane);
      min[i] = load_integers(block.sub_min[i] + lane);
    }
  }

  void store_scales(SearchResult& block, int lane) const {
    store(block.d + lane, d), store(block.dmin + lane, dmin);
    for (int i = 0; i < (spec.nested ? spec.block / spec.sub : 0); ++i) {
      store_integers(block.sub_scale[i] + lane, factor[i]);
      store_integers(block.sub_min[i] + lane, min[i]);
    }
  }

  // As a format computes them when it decodes.
  Floats scale(int s) const { return spec.nested ? d * factor[s] : d; }
  Floats offset(int s) const {
    if (!spec.has_offset) return splat(-0.0f);
    return spec.nested ? -(dmin * min[s]) : dmin;
  }

  const SearchSpec& spec;
  Levels levels;
  Floats d, dmin, factor[16], min[16];
};

template <class Levels>
void decode(const SearchSpec& spec, const SearchResult& block, float* values, int lane) {
  const Lanes<Levels> lanes(spec, block, lane);
  for (int j = 0; j < spec.block; ++j) {
    const int s = j / spec.sub;
    const Ints code = __builtin_convertvector(load_integers(block.codes[j] + lane), Ints);
    store(values + j * kStripRows + lane, lanes.scale(s) * lanes.levels.at(code) + lanes.offset(s));
  }
}

template <class Levels>
void round(const SearchSpec& spec, const float* u, int64_t stride, float* x, SearchResult& block,
           float* errors, int lane) {
  const Lanes<Levels> lanes(spec, block, lane);
  x += lane, errors += lane;
  for (int s = 0; s < spec.block / spec.sub; ++s) {
    const Floats scale = lanes.scale(s), offset = lanes.offset(s), inv = inverse(scale);
    for (int j = s * spec.sub; j < (s + 1) * spec.sub; ++j) {
      const Floats xj = load(x + j * kStripRows);
      const Ints code = lanes.levels.code((xj - offset) * inv);
      store_narrow(block.codes[j] + lane, code);
      const float* row = u + j * stride;
      const Floats e = (xj - (scale * lanes.levels.at(code) + offset)) * (1 / row[j]);
      store(errors + j * kStripRows, e);
      for (int k = j + 1; k < spec.block; ++k)
        store(x + k * kStripRows, load(x + k * kStripRows) - e * row[k]);
    }
  }
}

/// kColumns columns for all lanes: their sums stay in registers.
template <int kColumns>
void spread_columns(const float* m, int64_t stride, int64_t count, const float* errors, float* x) {
  constexpr int kGroups = kStripRows / kLanes;
  Floats sum[kColumns][kGroups]{};
  for (int64_t j = 0; j < count; ++j)
    for (int g = 0; g < kGroups; ++g) {
      const Floats e = load(errors + j * kStripRows + g * kLanes);
      for (int c = 0; c < kColumns; ++c) sum[c][g] += e * m[j * stride + c];
    }
  for (int c = 0; c < kColumns; ++c)
    for (int g = 0; g < kGroups; ++g) {
      float* p = x + c * kStripRows + g * kLanes;
      store(p, load(p) - sum[c][g]);
    }
}

void spread(const float* m, int64_t stride, int64_t count, const float* errors, float* x,
            int64_t columns) {
  int64_t k = 0;
  for (; k + 4 <= columns; k += 4)
    spread_columns<4>(m + k, stride, count, errors, x + k * kStripRows);
  for (; k < columns; ++k) spread_columns<1>(m + k, stride, count, errors, x + k * kStripRows);
}

/// Coordinate descent in one block. `g` is the gradient: what the loss falls by, to first order,
/// for each unit that twice q_j grows.
template <class Levels>
class Descent {
 public:
  Descent(const SearchSpec& spec, const float* h, int64_t stride, float* g, SearchResult& block,
          float* changes, int lane)
      : spec_(spec),
        h_(h),
        stride_(stride),
        g_(g + lane),
        block_(block),
        changes_(changes + lane),
        lane_(lane),
        lanes_(spec, block, lane) {
    for (int j = 0; j < spec.block; ++j) {
      level_[j] =
          lanes_.levels.at(__builtin_convertvector(load_integers(block.codes[j] + lane), Ints));
      store(changes_ + j * kStripRows, Floats{});
    }
  }

  bool run() {
    for (int j = 0; j < spec_.block; ++j) code(j);
    if (spec_.nested) {
      for (int s = 0; s < spec_.block / spec_.sub; ++s) sub_scales(s);
    }
    super_scales();
    lanes_.store_scales(block_, lane_);
    return changed_;
  }

 private:
  Floats gradient(int j) const { return load(g_ + j * kStripRows); }

  void grow(int j, Floats by) {
    store(changes_ + j * kStripRows, load(changes_ + j * kStripRows) + by);
  }

  /// The nearest code to the best value of column j, all others as they are.
  void code(int j) {
    const int s = j / spec_.sub;
    const Floats scale = lanes_.scale(s), g = gradient(j), hjj = splat(h_[j * stride_ + j]);
    const Floats best = scale * level_[j] + g / hjj;
    const Ints code = lanes_.levels.code(best * inverse(scale));
    const Floats level = lanes_.levels.at(code), delta = scale * (level - level_[j]);
    const Ints better = delta * (2 * g - delta * hjj) > 0;
    if (!any(better)) return;
    const Floats by = select(better, delta, Floats{});
    level_[j] = select(better, level, level_[j]);
    const Ints old = __builtin_convertvector(load_integers(block_.codes[j] + lane_), Ints);
    store_narrow(block_.codes[j] + lane_, better ? code : old);
    for (int k = 0; k < spec_.block; ++k)
      store(g_ + k * kStripRows, gradient(k) - by * h_[j * stride_ + k]);
    grow(j, by);
    changed_ = true;
  }

  /// Moves q along `direction(j)`, j in [begin, end), as far as storable(best length) says, where
  /// that lowers the loss. Returns how far.
  template <class Direction, class Storable>
  Floats move(int begin, int end, Direction direction, Storable storable) {
    Floats product[kMaxColumns], num{}, den{};
    for (int k = 0; k < spec_.block; ++k) product[k] = Floats{};
    for (int j = begin; j < end; ++j) {
      const Floats v = direction(j);
      num += v * gradient(j);
      const float* row = h_ + j * stride_;
      for (int k = 0; k < spec_.block; ++k) product[k] += v * row[k];
    }
    for (int j = begin; j < end; ++j) den += direction(j) * product[j];
    const Floats length = storable(ratio(num, den));
    const Ints better = length * (2 * num - length * den) > 0;
    if (!any(better)) return Floats{};
    const Floats by = select(better, length, Floats{});
    for (int k = 0; k < spec_.block; ++k) store(g_ + k * kStripRows, gradient(k) - by * product[k]);
    for (int j = begin; j < end; ++j) grow(j, by * direction(j));
    changed_ = true;
    return by;
  }

  static Floats clamp(Floats x, float low, float high) {
    return nearest_integer(NIBBLE_ISA::min(NIBBLE_ISA::max(x, splat(low)), splat(high)));
  }

  /// The integers of one sub-block.
  void sub_scales(int s) {
    const int begin = s * spec_.sub, end = begin + spec_.sub;
    Floats next = lanes_.factor[s];
    const Floats by = move(
        begin, end, [&](int j) { return level_[j]; },
        [&](Floats length) {
          next = clamp(lanes_.factor[s] + length * inverse(lanes_.d), spec_.scale_min,
                       spec_.scale_max);
          return lanes_.d * (next - lanes_.factor[s]);
        });
    lanes_.factor[s] = select(by == 0, lanes_.factor[s], next);
    if (!spec_.has_offset) return;
    next = lanes_.min[s];
    const Floats down = move(
        begin, end, [&](int) { return splat(1); },
        [&](Floats length) {
          next = clamp(lanes_.min[s] - length * inverse(lanes_.dmin), 0, spec_.offset_max);
          return lanes_.dmin * (lanes_.min[s] - next);
        });
    lanes_.min[s] = select(down == 0, lanes_.min[s], next);
  }

  /// The fp16 scales of the block.
  void super_scales() {
    const auto direction = [&](int j) {
      return spec_.nested ? lanes_.factor[j / spec_.sub] * level_[j] : level_[j];
    };
    super_scale(lanes_.d, direction);
    if (!spec_.has_offset) return;
    super_scale(lanes_.dmin,
                [&](int j) { return spec_.nested ? -lanes_.min[j / spec_.sub] : splat(1); });
  }

  template <class Direction>
  void super_scale(Floats& stored, Direction direction) {
    Floats next = stored;
    const Floats by = move(0, spec_.block, direction, [&](Floats length) {
      next = round_fp16(stored + length);
      return next - stored;
    });
    stored = select(by == 0, stored, next);
  }

  const SearchSpec& spec_;
  const float* h_;
  int64_t stride_;
  float* g_;
  SearchResult& block_;
  float* changes_;
  int lane_;
  Lanes<Levels> lanes_;
  Floats level_[kMaxColumns];
  bool changed_ = false;
};

template <class T>
struct Type {
  using type = T;
};

/// fn(type of the format's levels, lane) for all lanes.
template <class Fn>
void each_lane(const SearchSpec& spec, Fn fn) {
  for (int lane = 0; lane < kStripRows; lane += kLanes) {
    if (spec.consecutive)
      fn(Type<Consecutive>(), lane);
    else
      fn(Type<Table>(), lane);
  }
}

void decode_block(const SearchSpec* spec, const SearchResult* block, float* values) {
  each_lane(*spec, [&](auto levels, int lane) {
    decode<typename decltype(levels)::type>(*spec, *block, values, lane);
  });
}

void round_block(const SearchSpec* spec, const float* u, int64_t stride, float* x,
                 SearchResult* block, float* errors) {
  each_lane(*spec, [&](auto levels, int lane) {
    round<typename decltype(levels)::type>(*spec, u, stride, x, *block, errors, lane);
  });
}

bool refine_block(const SearchSpec* spec, const float* h, int64_t stride, float* g,
                  SearchResult* block, float* changes) {
  bool changed = false;
  each_lane(*spec, [&](auto levels, int lane) {
    changed |=
        Descent<typename decltype(levels)::type>(*spec, h, stride, g, *block, changes, lane).run();
  });
  return changed;
}

}  // namespace

const Feedback& feedback_feedback() {
  static constexpr Feedback all = {kIsa, decode_block, round_block, spread, refine_block};
  return all;
}

}  // namespace nibble::NIBBLE_ISA
