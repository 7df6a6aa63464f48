#include "kernel/matrix.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "base/checked.h"
#include "base/clones.h"
#include "base/cpu.h"
#include "base/half.h"
#include "base/large.h"
#include "base/transpose.h"
#include "kernel/inputs.h"
#include "kernel/ops.h"

namespace nibble {
namespace {

constexpr std::size_t kAlign = 64;

std::size_t align(std::size_t n) { return (n + kAlign - 1) / kAlign * kAlign; }

/// How a quantized format is packed.
struct Coding {
  Packing packing = Packing::w8;
  int bias = 0, max_code = 0;
  std::array<std::uint8_t, 16> table{};   // what a code stands for
  bool named = false;                     // table is not 0, 1, 2, ...
  std::array<std::uint8_t, 256> code{};   // of level -128 + index
  std::array<std::uint8_t, 256> again{};  // of a code of the format that stands for one column
};

/// The narrowest packing of codes up to `most`.
Packing packing_of(int most) {
  for (const Packing each : {Packing::w2, Packing::w3, Packing::w4, Packing::w5, Packing::w6})
    if (const Planes p = planes_of(each); most < 1 << (p.low + p.high)) return each;
  return Packing::w8;
}

Coding coding_of(const Format& format) {
  const auto levels = format.layout().levels;
  if (levels.empty()) return {};
  const int low = *std::min_element(levels.begin(), levels.end());
  const int high = *std::max_element(levels.begin(), levels.end());
  Coding coding{packing_of(high - low), low, high - low};
  const bool named = levels.size() <= 16 && packing_of(int(levels.size()) - 1) != coding.packing;
  if (named) coding.packing = packing_of(int(levels.size()) - 1), coding.named = true;
  for (std::size_t c = 0; c < levels.size(); ++c) {
    const auto code = std::uint8_t(named ? c : std::size_t(levels[c] - low));
    coding.code[std::size_t(levels[c] + 128)] = coding.again[c] = code;
    if (named) coding.table[c] = std::uint8_t(levels[c] - low);
  }
  return coding;
}

PackedView::Number number_of(const Layout& layout) {
  switch (layout.number) {
    case Layout::Number::fp16:
      return PackedView::kFp16;
    case Layout::Number::f32:
      return PackedView::kF32;
    default:
      return PackedView::kBf16;  // powers of two go beyond the range of fp16
  }
}

/// Where the arrays of a quantized matrix lie in its storage.
struct Parts {
  std::size_t weights, d, dmin, sub_scale, sub_min, zero, table, end;
  Parts(const Format& format, const Coding& coding, std::size_t padded, std::size_t columns) {
    const Layout& layout = format.layout();
    const std::size_t block = std::size_t(format.block());
    const bool nested = layout.scales == Layout::Scales::nested;
    const std::size_t values = padded * columns, blocks = values / block,
                      subs = values / std::size_t(layout.sub),
                      number = number_of(layout) == PackedView::kF32 ? 4 : 2;
    weights = 0;
    const Planes planes = planes_of(coding.packing);
    d = align(values / 8 * std::size_t(planes.low + planes.high));
    dmin = align(d + blocks * number);
    sub_scale = align(dmin + (layout.has_offset && !layout.zero_point ? blocks * number : 0));
    sub_min = align(sub_scale + (nested ? subs : 0));
    zero = align(sub_min + (nested && layout.has_offset ? subs : 0));
    table = align(zero + (layout.zero_point ? blocks : 0));
    end = table + align(coding.table.size());
  }
};

/// Bits [first, first + kBits) of codes as a plane has them, a word of each of its pieces for 32
/// columns: words[unit * stride + piece].
template <int kBits>
NIBBLE_CLONES void fold_bits(const std::uint8_t* codes, int units, int first, std::uint32_t* words,
                             int stride) {
  constexpr std::uint32_t kMask = 0x01010101u * ((1u << kBits) - 1);
  std::uint32_t folded[2][kMaxBlock / 4];
  int count = units * kUnitColumns / 4, from = 0;
  std::memcpy(folded[0], codes, std::size_t(count) * 4);
  for (int i = 0; i < count; ++i) folded[0][i] = folded[0][i] >> first & kMask;
  for (int bits = kBits; bits < 8; bits *= 2, from ^= 1) {  // two words into one
    count /= 2;
    for (int i = 0; i < count; ++i)
      folded[from ^ 1][i] = folded[from][2 * i] | folded[from][2 * i + 1] << bits;
  }
  for (int unit = 0; unit < units; ++unit)
    std::memcpy(words + unit * stride, folded[from] + unit * kBits, kBits * 4);
}

/// One plane of the codes of a row.
void fold_plane(const std::uint8_t* codes, int units, int bits, int first, std::uint32_t* words,
                int stride) {
  if (bits == 8) return fold_bits<8>(codes, units, first, words, stride);
  if (bits == 4) return fold_bits<4>(codes, units, first, words, stride);
  if (bits == 2) return fold_bits<2>(codes, units, first, words, stride);
  fold_bits<1>(codes, units, first, words, stride);
}

/// Writes the rows of a panel of a quantized matrix, a span of columns at a time.
class Packer {
 public:
  Packer(const Format& format, const Coding& coding, const Parts& parts, std::int64_t columns,
         std::byte* base)
      : format_(format),
        coding_(coding),
        planes_(planes_of(coding.packing)),
        columns_(columns),
        weights_(reinterpret_cast<std::uint8_t*>(base)),
        number_(number_of(format.layout())),
        d_(base + parts.d),
        dmin_(base + parts.dmin),
        zero_(reinterpret_cast<std::int8_t*>(base + parts.zero)),
        sub_scale_(reinterpret_cast<std::int8_t*>(base + parts.sub_scale)),
        sub_min_(reinterpret_cast<std::uint8_t*>(base + parts.sub_min)),
        subs_(format.block() / format.layout().sub) {
    const std::size_t count = format.layout().levels.size();
    same_codes_ = format.spec().grain == 1;
    for (std::size_t c = 0; c < count; ++c) same_codes_ = same_codes_ && coding.again[c] == c;
  }

  /// `rows` rows of the panel exist, `row_bytes` apart from `in` on.
  void pack_panel(std::int64_t panel, int rows, const std::byte* in, std::size_t row_bytes) const {
    const int span = std::max(format_.block(), kUnitColumns), words = span / kUnitColumns * bits();
    const std::size_t span_bytes = std::size_t(span / format_.block()) * format_.spec().bytes;
    std::uint32_t folded[kPanelRows][kMaxBlock / 4];
    Grid grid;
    const std::int64_t blocks = columns_ / format_.block();
    for (std::int64_t j = 0; j < columns_; j += span, in += span_bytes) {
      const std::int64_t block = panel * blocks + j / format_.block();
      for (int r = 0; r < rows; ++r)
        fold_row(in + std::size_t(r) * row_bytes, block, r, span, grid, folded[r]);
      auto* out = reinterpret_cast<std::uint32_t*>(weights_ + (panel * columns_ + j) * kPanelRows /
                                                                  8 * bits());
      transpose(
          rows, words, [&](int r) { return folded[r]; }, out, kPanelRows);
    }
  }

 private:
  int bits() const { return planes_.low + planes_.high; }

  /// A span of a row from a block of its panel on: scales to where they belong, codes into words.
  void fold_row(const std::byte* in, std::int64_t first, int lane, int span, Grid& grid,
                std::uint32_t* words) const {
    const int block = format_.block(), units = span / kUnitColumns;
    std::uint8_t codes[kMaxBlock];
    for (int at = 0; at < span; at += block, in += format_.spec().bytes, ++first) {
      unpack(in, grid, codes + at);
      put_scales(grid, first, lane);
    }
    fold_plane(codes, units, planes_.low, 0, words, bits());
    if (planes_.high > 0)
      fold_plane(codes, units, planes_.high, planes_.low, words + planes_.low, bits());
  }

  /// The codes of a block as the packing has them.
  void unpack(const std::byte* in, Grid& grid, std::uint8_t* out) const {
    const int block = format_.block();
    if (format_.spec().grain > 1) {
      Code codes[kMaxBlock];
      std::int8_t levels[kMaxBlock];
      format_.unpack(in, grid, codes);
      format_.levels(grid, codes, levels);
      for (int i = 0; i < block; ++i) out[i] = coding_.code[std::size_t(levels[i] + 128)];
      return;
    }
    format_.unpack_bytes(in, grid, out);
    for (int i = 0; !same_codes_ && i < block; ++i) out[i] = coding_.again[out[i]];
  }

  /// Of the block of a row that has index `block` in its panel.
  void put_scales(const Grid& grid, std::int64_t block, int lane) const {
    const Layout& layout = format_.layout();
    const std::int64_t at = block * kPanelRows + lane;
    put_number(d_, at, grid.d);
    if (layout.zero_point)
      zero_[at] = std::int8_t(grid.dmin);
    else if (layout.has_offset)
      put_number(dmin_, at, grid.dmin);
    if (layout.scales != Layout::Scales::nested) return;
    const std::int64_t first = block * subs_ * kPanelRows + lane;
    const std::span subs(grid.sub_scale.data(), std::size_t(subs_));
    put_column(subs, sub_scale_ + first);
    if (layout.has_offset)
      put_column(std::span(grid.sub_min.data(), subs.size()), sub_min_ + first);
  }

  template <class Byte>
  static void put_column(std::span<const std::int16_t> numbers, Byte* out) {
    for (std::size_t i = 0; i < numbers.size(); ++i) out[i * kPanelRows] = Byte(numbers[i]);
  }

  void put_number(std::byte* array, std::int64_t at, float x) const {
    if (number_ == PackedView::kF32) {
      std::memcpy(array + at * 4, &x, 4);
      return;
    }
    const std::uint16_t half = number_ == PackedView::kBf16 ? f32_to_bf16(x) : f32_to_fp16(x);
    std::memcpy(array + at * 2, &half, 2);
  }

  const Format& format_;
  const Coding& coding_;
  Planes planes_;
  std::int64_t columns_;
  std::uint8_t* weights_;
  PackedView::Number number_;
  std::byte *d_, *dmin_;
  std::int8_t* zero_;
  std::int8_t* sub_scale_;
  std::uint8_t* sub_min_;
  int subs_;         // of a block
  bool same_codes_;  // a code of the format is packed as it is
};

/// Interleaves the rows of a panel of floating point values; `rows` of them exist.
template <class T>
void pack_values(const std::byte* in, std::int64_t rows, std::int64_t columns, std::byte* out) {
  if (rows < kPanelRows) std::memset(out, 0, std::size_t(kPanelRows * columns) * sizeof(T));
  const auto row = [&](int r) {
    return reinterpret_cast<const T*>(in) + std::size_t(r) * std::size_t(columns);
  };
  transpose(int(rows), columns, row, reinterpret_cast<T*>(out), kPanelRows);
}

struct Plain {
  std::string_view id;
  Packing packing;
  void (*pack)(const std::byte*, std::int64_t, std::int64_t, std::byte*);
};
constexpr Plain kPlain[] = {{"f32", Packing::f32, pack_values<std::uint32_t>},
                            {"f16", Packing::f16, pack_values<std::uint16_t>},
                            {"bf16", Packing::bf16, pack_values<std::uint16_t>}};

/// nullptr: quantized.
const Plain* plain_of(const Format& format) {
  const auto* found = std::ranges::find(kPlain, format.id(), &Plain::id);
  return found == std::end(kPlain) ? nullptr : found;
}

std::size_t padded_rows(std::int64_t rows) {
  return std::size_t((rows + kPanelRows - 1) / kPanelRows * kPanelRows);
}

/// What a format is packed as: levels that are no small integers become float32.
const Format& stored_as(const Format& format) {
  return format.layout().values.empty() ? format : *find_format("f32");
}

/// What no panel writes, before they are written: the table, and zeros where arrays end before the
/// next one begins.
void put_rest(const Coding& coding, const Parts& parts, std::byte* storage) {
  for (const std::size_t end :
       {parts.d, parts.dmin, parts.sub_scale, parts.sub_min, parts.zero, parts.table, parts.end})
    std::memset(storage + end - kAlign, 0, kAlign);
  std::memcpy(storage + parts.table, coding.table.data(), coding.table.size());
}

/// Whether such a matrix can be packed for an instruction set.
Status check(const Format& format, std::int64_t rows, std::int64_t columns, std::string_view isa) {
  if (isa.empty() || !isa_runs(isa))
    return fail(
        ErrorCode::invalid,
        "NIBBLE_ISA names no instruction set that runs here: unset it, or set it to scalar");
  const int step =
      format.layout().scales == Layout::Scales::none ? 1 : std::max(32, format.block());
  if (rows < 1 || columns < 1 || columns % step != 0)
    return fail(ErrorCode::invalid, "{} x {} weights cannot be {}: rows are blocks of {}", rows,
                columns, format.id(), step);
  return {};
}

/// Levels that are no small integers, as float32.
Result<Matrix> pack_decoded(const Format& format, std::int64_t rows, std::int64_t columns,
                            std::span<const std::byte> bytes, ThreadPool& pool,
                            std::string_view isa) {
  std::vector<float> values(std::size_t(rows * columns));
  const std::size_t row_bytes = format.row_bytes(std::size_t(columns));
  pool.run(rows, 16, [&](std::int64_t begin, std::int64_t end) {
    format.decode(bytes.data() + std::size_t(begin) * row_bytes,
                  std::size_t((end - begin) * (columns / format.block())),
                  values.data() + begin * columns);
  });
  return Matrix::pack(*find_format("f32"), rows, columns, std::as_bytes(std::span(values)), pool,
                      isa);
}

}  // namespace

const Kernel* find_kernel(Packing packing, std::string_view isa) {
  for (const Kernel* kernel : kernel_registry())
    if (kernel->packing == packing && kernel->isa == isa) return kernel;
  return nullptr;
}

Result<Matrix> Matrix::pack(const Format& format, std::int64_t rows, std::int64_t columns,
                            std::span<const std::byte> bytes, ThreadPool& pool) {
  return pack(format, rows, columns, bytes, pool, active_isa());
}

Result<Matrix> Matrix::pack(const Format& format, std::int64_t rows, std::int64_t columns,
                            std::span<const std::byte> bytes, ThreadPool& pool,
                            std::string_view isa) {
  NIBBLE_DO(check(format, rows, columns, isa));
  NIBBLE_TRY(const auto size, checked_mul(std::uint64_t(rows), format.row_bytes(columns)));
  if (size != bytes.size())
    return fail(ErrorCode::corrupt, "{} x {} weights of {} are {} bytes, not {}", rows, columns,
                format.id(), size, bytes.size());

  if (&stored_as(format) != &format) return pack_decoded(format, rows, columns, bytes, pool, isa);

  const auto storage = allocate_large(packed_bytes(format, rows, columns));
  Matrix m = lay_out(format, rows, columns, isa, storage);
  const std::int64_t panels = (rows + kPanelRows - 1) / kPanelRows;
  const std::size_t row_bytes = format.row_bytes(std::size_t(columns));
  std::byte* base = storage.get();
  populate_large(base, m.bytes_, pool);
  if (const Plain* plain = plain_of(format)) {
    pool.run(panels, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t p = begin; p < end; ++p)
        plain->pack(bytes.data() + std::size_t(p * kPanelRows) * row_bytes,
                    std::min<std::int64_t>(kPanelRows, rows - p * kPanelRows), columns,
                    base + std::size_t(p * kPanelRows) * row_bytes);
    });
    return m;
  }
  const Coding coding = coding_of(format);
  const Parts parts(format, coding, padded_rows(rows), std::size_t(columns));
  const Packer packer(format, coding, parts, columns, base);
  if (rows % kPanelRows != 0) std::memset(base, 0, parts.table);
  put_rest(coding, parts, base);
  pool.run(panels, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t p = begin; p < end; ++p)
      packer.pack_panel(p, int(std::min<std::int64_t>(kPanelRows, rows - p * kPanelRows)),
                        bytes.data() + std::size_t(p * kPanelRows) * row_bytes, row_bytes);
  });
  return m;
}

std::uint64_t Matrix::packed_bytes(const Format& format, std::int64_t rows, std::int64_t columns) {
  const Format& stored = stored_as(format);
  const std::size_t padded = padded_rows(rows);
  if (plain_of(stored)) return padded * stored.row_bytes(std::size_t(columns));
  return Parts(stored, coding_of(stored), padded, std::size_t(columns)).end;
}

Matrix Matrix::lay_out(const Format& format, std::int64_t rows, std::int64_t columns,
                       std::string_view isa, std::shared_ptr<const std::byte> storage) {
  Matrix m;
  const Plain* plain = plain_of(format);
  const Coding coding = coding_of(format);
  m.view_.rows = rows, m.view_.columns = columns;
  m.view_.packing = plain ? plain->packing : coding.packing;
  m.kernel_ = find_kernel(m.view_.packing, isa);
  NIBBLE_CHECK(m.kernel_ != nullptr);
  m.bytes_ = packed_bytes(format, rows, columns);
  m.storage_ = std::move(storage);
  const std::byte* base = m.storage_.get();
  m.view_.weights = reinterpret_cast<const std::uint8_t*>(base);
  if (plain) return m;

  const Layout& layout = format.layout();
  const Parts parts(format, coding, padded_rows(rows), std::size_t(columns));
  const bool nested = layout.scales == Layout::Scales::nested;
  m.view_.sub = std::min(layout.sub, 32), m.view_.block = format.block();
  m.view_.number = number_of(layout), m.view_.unit = layout.unit;
  m.view_.bias = coding.bias, m.view_.max_code = coding.max_code;
  m.view_.d = base + parts.d;
  if (layout.zero_point)
    m.view_.zero = reinterpret_cast<const std::int8_t*>(base + parts.zero);
  else if (layout.has_offset)
    m.view_.dmin = base + parts.dmin;
  m.view_.scale_min = layout.scale_min, m.view_.scale_max = layout.scale_max;
  if (nested) m.view_.sub_scale = reinterpret_cast<const std::int8_t*>(base + parts.sub_scale);
  if (nested && layout.has_offset)
    m.view_.sub_min = reinterpret_cast<const std::uint8_t*>(base + parts.sub_min);
  if (coding.named) m.view_.table = reinterpret_cast<const std::uint8_t*>(base + parts.table);
  return m;
}

Matrix Matrix::blank(const Format& format, std::int64_t rows, std::int64_t columns) {
  const Format& stored = stored_as(format);
  const std::size_t bytes = packed_bytes(stored, rows, columns);
  const auto storage = allocate_large(bytes);
  std::memset(storage.get(), 0, bytes);
  if (!plain_of(stored)) {
    const Coding coding = coding_of(stored);
    put_rest(coding, Parts(stored, coding, padded_rows(rows), std::size_t(columns)), storage.get());
  }
  return lay_out(stored, rows, columns, active_isa(), storage);
}

Result<Matrix> Matrix::over(const Format& format, std::int64_t rows, std::int64_t columns,
                            std::shared_ptr<const std::byte> storage) {
  NIBBLE_DO(check(format, rows, columns, active_isa()));
  return lay_out(stored_as(format), rows, columns, active_isa(), std::move(storage));
}

void Matrix::row(std::int64_t index, float* out) const {
  constexpr std::int64_t kStep = 256;
  NIBBLE_CHECK(!order_);
  alignas(kAlign) float tile[kStep * kPanelRows];
  for (std::int64_t j = 0; j < columns(); j += kStep) {
    const std::int64_t n = std::min(kStep, columns() - j);
    kernel_->decode(&view_, index / kPanelRows, j, j + n, tile);
    for (std::int64_t i = 0; i < n; ++i) out[j + i] = tile[i * kPanelRows + index % kPanelRows];
  }
}

Input::Input(const float* values, std::int64_t tokens, std::int64_t columns, Precision precision,
             std::span<const std::int64_t> sequences)
    : view_{.tokens = tokens,
            .columns = columns,
            .values = values,
            .codes = nullptr,
            .scales = nullptr,
            .code_sums = nullptr,
            .steps = nullptr},
      precision_(precision),
      sequences_(sequences) {}

template <class Fill>
const InputView& Input::add_rounded(int block, const Fill& fill) {
  const std::size_t values = std::size_t(view_.tokens * view_.columns);
  const std::size_t scales = align(values), sums = scales + align(values / 32 * sizeof(float));
  auto storage =
      std::make_unique_for_overwrite<std::byte[]>(sums + values / 16 * sizeof(std::int32_t));
  auto* codes = reinterpret_cast<std::int8_t*>(storage.get());
  auto* x_scale = reinterpret_cast<float*>(storage.get() + scales);
  auto* x_sum = reinterpret_cast<std::int32_t*>(storage.get() + sums);
  fill(codes, x_scale, x_sum);
  InputView view = view_;
  view.codes = codes, view.scales = x_scale, view.code_sums = x_sum;
  rounded_.push_back({block, view, std::move(storage)});
  return rounded_.back().view;
}

const InputView& Input::rounded(int block, ThreadPool& pool) {
  for (const Rounded& done : rounded_)
    if (done.block == block || done.block == kAnyBlock) return done.view;
  return add_rounded(block, [&](std::int8_t* codes, float* scales, std::int32_t* sums) {
    pool.run(view_.tokens, 8, [&](std::int64_t begin, std::int64_t end) {
      const std::int64_t at = begin * view_.columns;
      ops().quantize_input(view_.values + at, (end - begin) * view_.columns, block, codes + at,
                           scales + at / 32, sums + at / 16);
    });
  });
}

const InputView& Input::rounded_for(const Matrix& w, ThreadPool& pool) {
  // Blocks of inputs as wide as those of the weights: what llama.cpp does, so that both round
  // alike.
  if (w.view().d) return rounded(std::max(w.view().block, 32), pool);
  return w.view().packing == Packing::f32 || view_.columns % 2 != 0 ? view_ : steps(pool);
}

const InputView& Input::steps(ThreadPool& pool) {
  if (view_.steps) return view_;
  const std::int64_t n = view_.columns;
  const auto& bf16 = ops().bf16;
  steps_ = std::make_unique_for_overwrite<float[]>(std::size_t(view_.tokens * n / bf16.step));
  pool.run(view_.tokens, 8, [&](std::int64_t begin, std::int64_t end) {
    bf16.round(view_.values + begin * n, steps_.get() + begin * n / bf16.step, (end - begin) * n);
  });
  view_.steps = steps_.get();
  return view_;
}

Input& Input::prepared(const InputRounding& rounding, const ColumnOrder& order, ThreadPool& pool) {
  for (const Prepared& done : prepared_)
    if (done.rounding == rounding &&
        (done.order == order || (done.order && order && *done.order == *order)))
      return *done.input;
  const bool integers = rounding.kind == InputRounding::Kind::int8 && view_.columns % 32 == 0;
  const bool rounds = rounding.kind != InputRounding::Kind::none;
  auto values = std::make_unique<float[]>(std::size_t(view_.tokens * view_.columns));
  const auto whole = std::span(&view_.tokens, 1);
  std::int64_t at = 0;
  for (const std::int64_t count : sequences_.empty() ? whole : sequences_) {
    round_inputs(integers ? InputRounding() : rounding, view_.values + at, count, view_.columns,
                 values.get() + at, pool);
    at += count * view_.columns;
  }
  std::vector<float> row(order ? std::size_t(view_.columns) : 0);
  for (float* token = values.get(); order && token < values.get() + view_.tokens * view_.columns;
       token += view_.columns) {
    for (std::size_t j = 0; j < row.size(); ++j) row[j] = token[(*order)[j]];
    std::ranges::copy(row, token);
  }
  auto input = std::make_unique<Input>(values.get(), view_.tokens, view_.columns,
                                       integers ? Precision::fast
                                       : rounds ? Precision::exact
                                                : precision_);
  if (integers) input->take_integers(rounding, values.get(), pool);
  prepared_.push_back({rounding, order, std::move(values), std::move(input)});
  return *prepared_.back().input;
}

void Input::take_integers(const InputRounding& rounding, float* values, ThreadPool& pool) {
  const InputView& view =
      add_rounded(kAnyBlock, [&](std::int8_t* codes, float* scales, std::int32_t* sums) {
        round_to_integers(rounding, values, view_.tokens, view_.columns, codes, scales, sums, pool);
      });
  for (std::int64_t i = 0; i < view_.tokens * view_.columns; ++i)
    values[i] = view.scales[i / 32] * float(view.codes[i]);
}

namespace {
/// Of a thread, with what it was used for last.
struct Scratch {
  std::shared_ptr<std::byte> bytes;
  std::int64_t size = 0, block = 0;
  std::uint64_t product = 0;

  void grow(std::int64_t wanted) {
    if (size >= wanted) return;
    bytes = allocate_large(std::size_t(wanted)), size = wanted, product = 0;
  }
};
}  // namespace

void Input::multiply(const Matrix& w, const float* bias, float* out, std::int64_t out_stride,
                     ThreadPool& pool) {
  NIBBLE_CHECK(w.columns() == view_.columns);
  if (w.order() || w.inputs() != InputRounding()) {
    Matrix stored = w;
    stored.set_order(nullptr);
    stored.set_inputs({});
    return prepared(w.inputs(), w.order(), pool).multiply(stored, bias, out, out_stride, pool);
  }
  const InputView input = precision_ == Precision::exact ? view_ : rounded_for(w, pool);

  // Tokens in blocks, for each of which a panel is expanded once; panels in groups, ever smaller
  // ones, so that all threads end together. Several tokens in groups that are not so small that
  // arranging their inputs counts.
  constexpr std::int64_t kFewPanels = 24, kWholeTiles = 24, kTogether = 2;
  const std::int64_t threads = pool.size(), panels = (w.rows() + kPanelRows - 1) / kPanelRows;
  const std::int64_t blocks = (view_.tokens + kTokenBlock - 1) / kTokenBlock;
  const std::int64_t share = (view_.tokens + blocks - 1) / blocks;
  const std::int64_t tokens = (share + kWholeTiles - 1) / kWholeTiles * kWholeTiles;
  const std::int64_t least = view_.tokens == 1 ? 1 : kFewPanels;
  const std::int64_t groups =
      threads == 1 ? 1 : std::clamp<std::int64_t>(panels / least, 1, 4 * threads);
  const auto first_panel = [&](std::int64_t group) {
    const std::int64_t left = groups - group;
    const std::int64_t panel = panels - panels * left * left / (groups * groups);
    return left == 0 ? panels : panel / kTogether * kTogether;
  };
  const std::int64_t scratch_bytes =
      w.kernel().scratch_bytes(&w.view(), std::min(view_.tokens, tokens));
  static std::atomic<std::uint64_t> products = 0;
  const std::uint64_t product = ++products;
  pool.run(blocks * groups, 1, [&](std::int64_t begin, std::int64_t end) {
    static thread_local Scratch scratch;
    scratch.grow(scratch_bytes);
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t group = i % groups, block = i / groups;
      const Work work{.panel_begin = first_panel(group),
                      .panel_end = first_panel(group + 1),
                      .token_begin = std::min(view_.tokens, block * tokens),
                      .token_end = std::min(view_.tokens, (block + 1) * tokens),
                      .out = out,
                      .out_stride = out_stride,
                      .scratch = scratch.bytes.get(),
                      .arranged = scratch.product == product && scratch.block == block};
      if (work.panel_begin == work.panel_end) continue;
      w.kernel().multiply(&w.view(), &input, &work);
      scratch.product = product, scratch.block = block;
    }
  });
  if (bias)
    for (std::int64_t t = 0; t < view_.tokens; ++t)
      ops().add(out + t * out_stride, bias, out + t * out_stride, w.rows());
}

}  // namespace nibble
