// Error feedback inside a block and between blocks. One vector lane is one row.
#include "round/feedback.h"

#include "round/levels.h"
#include "round/points.h"
#include "round/vec.h"

namespace nibble::NIBBLE_ISA {
namespace {

constexpr int kMaxColumns = 256;

template <class Integer>
Floats load_integers(const Integer* p) {
  Ints out{};
  for (int l = 0; l < kLanes; ++l) out[l] = p[l];
  return __builtin_convertvector(out, Floats);
}

template <class Integer>
void store_integers(Integer* p, Floats x) {
  store_narrow(p, __builtin_convertvector(x, Ints));
}

/// The scales of one block for kLanes rows: read, changed, and written back.
struct Lanes {
  Lanes(const SearchSpec& s, const SearchResult& block, int lane) : spec(s) {
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
  Floats scale(int s) const { return spec.nested ? d * factor[s] * spec.unit : d; }
  Floats offset(int s) const {
    if (!spec.has_offset) return splat(-0.0f);
    return spec.nested ? -(dmin * min[s]) : spec.zero_point ? -(d * dmin) : dmin;
  }

  const SearchSpec& spec;
  Floats d, dmin, factor[16], min[16];
};

/// Codes that each column has for itself.
template <class Levels>
struct Columns {
  explicit Columns(const SearchSpec& spec) : levels(spec) {}
  static Ints code(const SearchResult& block, int j, int lane) {
    return __builtin_convertvector(load_integers(block.codes[j] + lane), Ints);
  }
  void read(const SearchSpec& spec, const SearchResult& block, int lane, Floats* level) const {
    for (int j = 0; j < spec.block; ++j) level[j] = levels.at(code(block, j, lane));
  }
  Levels levels;
};

/// Codes of groups of columns.
struct Groups {
  explicit Groups(const SearchSpec& spec) : points(spec) {}
  void read(const SearchSpec& spec, const SearchResult& block, int lane, Floats* level) const {
    for (int j = 0; j < spec.block; j += kGroupColumns)
      points.levels(points.load(block.groups[j / kGroupColumns] + lane), level + j);
  }
  Points points;
};

template <class Levels>
void round(const Columns<Levels>& codes, const SearchSpec& spec, const float* u, float* x,
           SearchResult& block, float* errors, float* left, int lane) {
  const Lanes lanes(spec, block, lane);
  x += lane, errors += lane, left += lane;
  for (int s = 0; s < spec.block / spec.sub; ++s) {
    const Floats scale = lanes.scale(s), offset = lanes.offset(s), inv = inverse(scale);
    for (int j = s * spec.sub; j < (s + 1) * spec.sub; ++j) {
      const Floats xj = load(x + j * kStripRows);
      const Ints code = codes.levels.code((xj - offset) * inv);
      store_narrow(block.codes[j] + lane, code);
      const float* row = u + j * spec.block;
      const Floats q = scale * codes.levels.at(code) + offset, e = (xj - q) * (1 / row[j]);
      store(errors + j * kStripRows, load(errors + j * kStripRows) - q);
      store(left + j * kStripRows, e);
      for (int k = j + 1; k < spec.block; ++k)
        store(x + k * kStripRows, multiply_add(-e, splat(row[k]), load(x + k * kStripRows)));
    }
  }
}

/// Better and better codes of one group of columns, for the cost r M r of its errors r.
class GroupDescent {
 public:
  /// m: the 8 x 8 matrix M, symmetric, with `stride`.
  GroupDescent(Points& points, const float* m, int64_t stride, Floats scale)
      : points_(points), m_(m), stride_(stride), scale_(scale), inverse_(2 * inverse(scale)) {
    for (int j = 0; j < kGroupColumns; ++j) {
      diagonal_[j] = m[j * stride + j], all_[j] = 0;
      for (int k = 0; k < kGroupColumns; ++k) all_[j] += __builtin_fabsf(m[j * stride + k]);
    }
  }

  /// The best code if errors of different columns did not meet.
  GroupCode start(const Floats* x, const Ints* bank) {
    points_.target(x, diagonal_);
    return points_.nearest(inverse_, bank);
  }

  /// Tries the code nearest to one step down the gradient: as far as each column for itself should
  /// go (`bold`), or so far that the cost can only fall. gradient: r M. Changes level and code, and
  /// writes how far the values grew; false if nothing did.
  bool step(bool bold, const Floats* gradient, const Ints* bank, Floats* level, GroupCode& code,
            Floats* grown) {
    const float* price = bold ? diagonal_ : all_;
    Floats goal[kGroupColumns], next[kGroupColumns], gain{};
    for (int j = 0; j < kGroupColumns; ++j)
      goal[j] = scale_ * level[j] + gradient[j] * (1 / price[j]);
    points_.target(goal, price);
    const GroupCode other = points_.nearest(inverse_, bank);
    points_.levels(other, next);
    for (int j = 0; j < kGroupColumns; ++j) grown[j] = scale_ * (next[j] - level[j]);
    for (int j = 0; j < kGroupColumns; ++j) {
      Floats product{};
      for (int k = 0; k < kGroupColumns; ++k) product += grown[k] * m_[j * stride_ + k];
      gain += grown[j] * (2 * gradient[j] - product);
    }
    const Ints better = gain > 0;
    if (!any(better)) return false;
    code = select(better, other, code);
    for (int j = 0; j < kGroupColumns; ++j) {
      level[j] = select(better, next[j], level[j]);
      grown[j] = select(better, grown[j], Floats{});
    }
    return true;
  }

 private:
  Points& points_;
  const float* m_;
  int64_t stride_;
  Floats scale_, inverse_;
  float diagonal_[kGroupColumns], all_[kGroupColumns];
};

/// (U^T U)^-1 of an 8 x 8 upper triangle U: what errors of a group cost that later columns make up
/// for as well as they can.
void group_cost(const float* u, int64_t stride, float* m) {
  constexpr int n = kGroupColumns;
  float v[n][n]{};  // U^-1
  for (int k = 0; k < n; ++k) {
    v[k][k] = 1 / u[k * stride + k];
    for (int j = k - 1; j >= 0; --j) {
      float sum = 0;
      for (int i = j + 1; i <= k; ++i) sum += u[j * stride + i] * v[i][k];
      v[j][k] = -sum / u[j * stride + j];
    }
  }
  for (int j = 0; j < n; ++j)
    for (int k = 0; k < n; ++k) {
      float sum = 0;
      for (int i = j > k ? j : k; i < n; ++i) sum += v[j][i] * v[k][i];
      m[j * n + k] = sum;
    }
}

void round(Groups& codes, const SearchSpec& spec, const float* u, float* x, SearchResult& block,
           float* errors, float* left, int lane) {
  constexpr int n = kGroupColumns, kSteps = 4;
  const int64_t stride = spec.block;
  const Lanes lanes(spec, block, lane);
  x += lane, errors += lane, left += lane;
  for (int g = 0; g < spec.block / n; ++g) {
    const float* rows = u + g * n * stride;  // of the group
    float m[n * n];
    group_cost(rows + g * n, stride, m);
    const Floats scale = lanes.scale(g * n / spec.sub);
    GroupDescent descent(codes.points, m, n, scale);
    Floats goal[n], level[n], r[n], gradient[n], grown[n], e[n];
    for (int j = 0; j < n; ++j) goal[j] = load(x + (g * n + j) * kStripRows);
    uint32_t* stored = block.groups[g] + lane;
    const Ints fixed = codes.points.in_second_bank(codes.points.load(stored));
    const Ints* bank = codes.points.wide_banks() ? &fixed : nullptr;
    GroupCode code = descent.start(goal, bank);
    codes.points.levels(code, level);
    for (int i = 0; i < kSteps; ++i) {
      for (int j = 0; j < n; ++j) r[j] = goal[j] - scale * level[j];
      for (int j = 0; j < n; ++j) {
        gradient[j] = Floats{};
        for (int k = 0; k < n; ++k) gradient[j] += r[k] * m[j * n + k];
      }
      if (!descent.step(i % 2 == 0, gradient, bank, level, code, grown) && i > 0) break;
    }
    codes.points.store(code, stored);
    for (int j = 0; j < n; ++j) {
      const Floats q = scale * level[j];
      float* const error = errors + (g * n + j) * kStripRows;
      store(error, load(error) - q);
      e[j] = goal[j] - q;
      for (int k = 0; k < j; ++k) e[j] -= e[k] * rows[k * stride + g * n + j];
      e[j] = e[j] * (1 / rows[j * stride + g * n + j]);
      store(left + (g * n + j) * kStripRows, e[j]);
    }
    for (int k = (g + 1) * n; k < spec.block; ++k) {
      Floats sum = load(x + k * kStripRows);
      for (int j = 0; j < n; ++j) sum -= e[j] * rows[j * stride + k];
      store(x + k * kStripRows, sum);
    }
  }
}

/// The gradient of sum_j e_j^2, in place: e U^-T.
void gradient_of(const float* u, int n, float* e) {
  for (int j = n - 1; j >= 0; --j) {
    const Floats g = load(e + j * kStripRows) * (1 / u[j * n + j]);
    store(e + j * kStripRows, g);
    for (int k = 0; k < j; ++k)
      store(e + k * kStripRows, multiply_add(-g, splat(u[k * n + j]), load(e + k * kStripRows)));
  }
}

/// x += errors m, or with `back` errors m^T, of m[][width]: kColumns columns of kGroups vectors of
/// rows, whose sums stay in registers.
template <bool kBack, int kColumns, int kGroups>
void product_tile(const float* m, int width, int64_t count, const float* errors, float* x) {
  Floats sum[kColumns][kGroups]{};
  for (int64_t j = 0; j < count; ++j) {
    Floats e[kGroups];
    for (int g = 0; g < kGroups; ++g) e[g] = load(errors + j * kStripRows + g * kLanes);
#pragma GCC unroll 8
    for (int c = 0; c < kColumns; ++c) {
      const Floats factor = splat(kBack ? m[c * width + j] : m[j * width + c]);
      for (int g = 0; g < kGroups; ++g) sum[c][g] = multiply_add(e[g], factor, sum[c][g]);
    }
  }
  for (int c = 0; c < kColumns; ++c)
    for (int g = 0; g < kGroups; ++g) {
      float* p = x + c * kStripRows + g * kLanes;
      store(p, load(p) + sum[c][g]);
    }
}

/// All rows of `columns` columns.
template <bool kBack>
void product(const float* m, int width, int64_t count, int64_t columns, const float* errors,
             float* x) {
  constexpr int kGroups = 2, kTile = kLanes < 16 ? 4 : 8;
  for (int lane = 0; lane < kStripRows; lane += kGroups * kLanes) {
    const float* e = errors + lane;
    int64_t c = 0;
    for (; c + kTile <= columns; c += kTile)
      product_tile<kBack, kTile, kGroups>(m + (kBack ? c * width : c), width, count, e,
                                          x + c * kStripRows + lane);
    for (; c < columns; ++c)
      product_tile<kBack, 1, kGroups>(m + (kBack ? c * width : c), width, count, e,
                                      x + c * kStripRows + lane);
  }
}

void spread(const float* m, int width, int64_t count, const float* errors, float* x) {
  constexpr int64_t kRows = 128;  // what is read stays in the first cache until all tiles have
  for (int64_t j = 0; j < count; j += kRows)
    product<false>(m + j * width, width, count - j < kRows ? count - j : kRows, width,
                   errors + j * kStripRows, x);
}

void spread_back(const float* m, int width, int64_t count, const float* errors, float* x) {
  product<true>(m, width, width, count, errors, x);
}

/// The sums of kLanes * kVectors columns. Every other change adds to sums of its own, so that two
/// are on their way at a time.
template <int kVectors>
void follow_row(const float* m, int width, const Changes& row, float* out) {
  Floats sum[2][kVectors]{};
  const auto add = [&](const Change& change, Floats* to) {
    const float* from = m + int64_t(change.column) * width;
    for (int v = 0; v < kVectors; ++v)
      to[v] = multiply_add(load(from + v * kLanes), splat(change.by), to[v]);
  };
  int64_t i = 0;
  for (; i + 2 <= row.count; i += 2) add(row.first[i], sum[0]), add(row.first[i + 1], sum[1]);
  if (i < row.count) add(row.first[i], sum[0]);
  for (int v = 0; v < kVectors; ++v) store(out + v * kLanes, sum[0][v] + sum[1][v]);
}

/// x[k][r] += from[r][k], for kLanes of each.
void add_transposed(const float* from, int width, float* x) {
  Floats in[kLanes];
  for (int l = 0; l < kLanes; ++l) in[l] = load(from + l * width);
  transpose(in);
  for (int l = 0; l < kLanes; ++l) store(x + l * kStripRows, load(x + l * kStripRows) + in[l]);
}

template <int kVectors>
void follow_columns(const float* m, int width, const Changes* rows, float* x) {
  constexpr int kColumns = kVectors * kLanes;
  alignas(64) float sums[kStripRows * kColumns];
  for (int c = 0; c < width; c += kColumns) {
    for (int r = 0; r < kStripRows; ++r)
      follow_row<kVectors>(m + c, width, rows[r], sums + r * kColumns);
    for (int r = 0; r < kStripRows; r += kLanes)
      for (int k = 0; k < kColumns; k += kLanes)
        add_transposed(sums + r * kColumns + k, kColumns, x + (c + k) * kStripRows + r);
  }
}

void follow(const float* m, int width, const Changes* rows, float* x) {
  return width % (2 * kLanes) == 0 ? follow_columns<2>(m, width, rows, x)
                                   : follow_columns<1>(m, width, rows, x);
}

/// Coordinate descent in one block. `g` is the gradient: what the loss falls by, to first order,
/// for each unit that twice q_j grows.
template <class Codes>
class Descent {
 public:
  Descent(const SearchSpec& spec, const float* h, float* g, SearchResult& block, float* changes,
          int lane)
      : spec_(spec),
        h_(h),
        stride_(spec.block),
        g_(g + lane),
        block_(block),
        changes_(changes + lane),
        lane_(lane),
        lanes_(spec, block, lane),
        codes_(spec) {
    codes_.read(spec, block, lane, level_);
    for (int j = 0; j < spec.block; ++j) store(changes_ + j * kStripRows, Floats{});
  }

  bool run(bool scales) {
    change_codes(codes_);
    if (scales) change_scales();
    return changed_;
  }

 private:
  Floats gradient(int j) const { return load(g_ + j * kStripRows); }

  void grow(int j, Floats by) {
    store(changes_ + j * kStripRows, load(changes_ + j * kStripRows) - by);
  }

  /// The nearest code to the best value of each column, all others as they are.
  template <class Levels>
  void change_codes(const Columns<Levels>& codes) {
    for (int s = 0; s < spec_.block / spec_.sub; ++s) {
      const Floats scale = lanes_.scale(s), inv = inverse(scale);
      for (int j = s * spec_.sub; j < (s + 1) * spec_.sub; ++j) {
        const Floats g = gradient(j);
        const float hjj = h_[j * stride_ + j];
        const Ints code = codes.levels.code((scale * level_[j] + g * (1 / hjj)) * inv);
        const Floats level = codes.levels.at(code), delta = scale * (level - level_[j]);
        const Ints better = delta * (2 * g - delta * hjj) > 0;
        if (!any(better)) continue;
        level_[j] = select(better, level, level_[j]);
        store_narrow(block_.codes[j] + lane_, better ? code : codes.code(block_, j, lane_));
        moved(j, select(better, delta, Floats{}));
      }
    }
  }

  /// The same for groups.
  void change_codes(Groups& codes) {
    for (int j = 0; j < spec_.block; j += kGroupColumns) {
      uint32_t* stored = block_.groups[j / kGroupColumns] + lane_;
      GroupCode code = codes.points.load(stored);
      const Ints fixed = codes.points.in_second_bank(code);
      const Ints* bank = codes.points.wide_banks() ? &fixed : nullptr;
      GroupDescent descent(codes.points, h_ + j * stride_ + j, stride_,
                           lanes_.scale(j / spec_.sub));
      for (int bold = 1; bold >= 0; --bold) {
        Floats g[kGroupColumns], grown[kGroupColumns];
        for (int i = 0; i < kGroupColumns; ++i) g[i] = gradient(j + i);
        if (!descent.step(bold != 0, g, bank, level_ + j, code, grown)) continue;
        codes.points.store(code, stored);
        for (int i = 0; i < kGroupColumns; ++i) moved(j + i, grown[i]);
      }
    }
  }

  void change_scales() {
    if (spec_.nested) {
      for (int s = 0; s < spec_.block / spec_.sub; ++s) sub_scales(s);
    }
    if (!spec_.whole_row) super_scales();
    lanes_.store_scales(block_, lane_);
  }

  /// Column j grew by `by`.
  void moved(int j, Floats by) {
    for (int k = 0; k < spec_.block; ++k)
      store(g_ + k * kStripRows, multiply_add(-by, splat(h_[j * stride_ + k]), gradient(k)));
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

  /// The nearest of low, low + step, ... high.
  static Floats clamp(Floats x, float low, float high, float step = 1) {
    const Floats inside = NIBBLE_ISA::min(NIBBLE_ISA::max(x, splat(low)), splat(high));
    return nearest_integer((inside - low) * (1 / step)) * step + low;
  }

  /// The integers of one sub-block.
  void sub_scales(int s) {
    const int begin = s * spec_.sub, end = begin + spec_.sub;
    Floats next = lanes_.factor[s];
    const Floats by = move(
        begin, end, [&](int j) { return level_[j]; },
        [&](Floats length) {
          const Floats unit = lanes_.d * spec_.unit;
          next = clamp(lanes_.factor[s] + length * inverse(unit), spec_.scale_min, spec_.scale_max,
                       spec_.scale_step);
          return unit * (next - lanes_.factor[s]);
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

  /// The stored scales of the block.
  void super_scales() {
    const auto direction = [&](int j) {
      if (spec_.zero_point) return level_[j] - lanes_.dmin;
      return spec_.nested ? lanes_.factor[j / spec_.sub] * spec_.unit * level_[j] : level_[j];
    };
    super_scale(lanes_.d, direction);
    if (!spec_.has_offset || spec_.zero_point) return;
    super_scale(lanes_.dmin,
                [&](int j) { return spec_.nested ? -lanes_.min[j / spec_.sub] : splat(1); });
  }

  template <class Direction>
  void super_scale(Floats& stored, Direction direction) {
    Floats next = stored;
    const Floats by = move(0, spec_.block, direction, [&](Floats length) {
      next = spec_.number == SearchSpec::kPower ? stored : as_stored(spec_, stored + length);
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
  Lanes lanes_;
  Codes codes_;
  Floats level_[kMaxColumns];
  bool changed_ = false;
};

/// fn(type of the format's codes, lane) for all lanes.
template <class Fn>
void each_lane(const SearchSpec& spec, Fn fn) {
  const auto lanes = [&](auto codes) {
    for (int lane = 0; lane < kStripRows; lane += kLanes) fn(codes, lane);
  };
  if (spec.book.count > 0) return lanes(Type<Groups>());
  with_levels(spec, [&](auto type) { lanes(Type<Columns<typename decltype(type)::type>>()); });
}

void round_block(const SearchSpec* spec, const float* u, float* x, SearchResult* block,
                 float* errors, float* g) {
  each_lane(*spec, [&](auto type, int lane) {
    typename decltype(type)::type codes(*spec);
    round(codes, *spec, u, x, *block, errors, g, lane);
    gradient_of(u, spec->block, g + lane);
  });
}

bool refine_block(const SearchSpec* spec, const float* h, bool scales, float* g,
                  SearchResult* block, float* changes) {
  bool changed = false;
  each_lane(*spec, [&](auto codes, int lane) {
    Descent<typename decltype(codes)::type> descent(*spec, h, g, *block, changes, lane);
    changed |= descent.run(scales);
  });
  return changed;
}

}  // namespace

const Feedback& feedback_feedback() {
  static constexpr Feedback all = {kIsa, round_block, spread, spread_back, follow, refine_block};
  return all;
}

}  // namespace nibble::NIBBLE_ISA
