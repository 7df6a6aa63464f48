// A weight matrix ready to be multiplied with, whatever format it was stored in.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "base/result.h"
#include "base/threads.h"
#include "container/input_rounding.h"
#include "format/format.h"
#include "kernel/kernel.h"

namespace nibble {

/// How inputs of products are represented. Weights in f32 are always multiplied in float32. Inputs
/// that the checkpoint itself rounds are not rounded twice: they are what it says with either, as
/// integers where these are what it rounds to.
enum class Precision {
  exact,  // float32: the reference for evaluation
  fast,   // rounded to 8 bits, as every fast runtime does; with f16 and bf16 both to bf16
};

class Matrix {
 public:
  Matrix() = default;

  /// Repacks `bytes` (`rows` rows of format.row_bytes(columns)) into panels for the active
  /// instruction set. Errors: sizes that do not match, a NIBBLE_ISA that is unknown or does not run
  /// here.
  static Result<Matrix> pack(const Format& format, std::int64_t rows, std::int64_t columns,
                             std::span<const std::byte> bytes, ThreadPool& pool);
  /// The same for the kernels of one instruction set, for tests and benchmarks.
  static Result<Matrix> pack(const Format& format, std::int64_t rows, std::int64_t columns,
                             std::span<const std::byte> bytes, ThreadPool& pool,
                             std::string_view isa);
  /// A matrix of zeros as pack() lays it out, at once: for measuring. A NIBBLE_ISA that does not
  /// run here is the caller's fault.
  static Matrix blank(const Format& format, std::int64_t rows, std::int64_t columns);
  /// A matrix that pack() made before, from what storage() gave of it: `storage` holds
  /// packed_bytes(), aligned to 64, and is kept as long as the matrix. Whatever the bytes are,
  /// products read nothing else. Error: as of pack().
  static Result<Matrix> over(const Format& format, std::int64_t rows, std::int64_t columns,
                             std::shared_ptr<const std::byte> storage);
  /// Bytes of memory that a packed matrix takes.
  static std::uint64_t packed_bytes(const Format& format, std::int64_t rows, std::int64_t columns);

  std::int64_t rows() const { return view_.rows; }
  std::int64_t columns() const { return view_.columns; }
  const PackedView& view() const { return view_; }
  const Kernel& kernel() const { return *kernel_; }
  std::size_t bytes() const { return bytes_; }  // of memory held
  /// All that pack() has written, which is the same on every instruction set.
  std::span<const std::byte> storage() const { return {storage_.get(), bytes_}; }

  /// Says that the columns are stored in another order.
  void set_order(ColumnOrder order) { order_ = std::move(order); }
  const ColumnOrder& order() const { return order_; }
  /// Says that its inputs are to be rounded.
  void set_inputs(const InputRounding& inputs) { inputs_ = inputs; }
  const InputRounding& inputs() const { return inputs_; }

  /// One row as float32, for embeddings.
  void row(std::int64_t index, float* out) const;

 private:
  /// A matrix whose arrays lie in `storage`, as packed_bytes() has room for them.
  static Matrix lay_out(const Format& format, std::int64_t rows, std::int64_t columns,
                        std::string_view isa, std::shared_ptr<const std::byte> storage);

  PackedView view_{};
  const Kernel* kernel_ = nullptr;
  std::size_t bytes_ = 0;
  std::shared_ptr<const std::byte> storage_;
  ColumnOrder order_;
  InputRounding inputs_;
};

/// The inputs of one or more products, with their 8-bit form made once and only if needed.
class Input {
 public:
  /// Tokens that a thread multiplies at a time: their inputs lie in its scratch.
  static constexpr std::int64_t kTokenBlock = 192;
  /// Keeps a reference to `values` ([tokens][columns]) and to `sequences`: how many of the tokens
  /// belong to each sequence, one after the other. None: all belong to one.
  Input(const float* values, std::int64_t tokens, std::int64_t columns, Precision precision,
        std::span<const std::int64_t> sequences = {});
  /// out[t * out_stride + r] = the product of row r of `w` with token t, plus bias[r] where bias is
  /// not null. Not to be called by two threads at once.
  void multiply(const Matrix& w, const float* bias, float* out, std::int64_t out_stride,
                ThreadPool& pool);

 private:
  /// The values rounded to 8 bits in blocks of `block`, or of kAnyBlock: a scale for all of a
  /// token.
  struct Rounded {
    int block;
    InputView view;
    std::unique_ptr<std::byte[]> storage;
  };
  static constexpr int kAnyBlock = 0;
  /// The inputs as fast products with `w` take them.
  const InputView& rounded_for(const Matrix& w, ThreadPool& pool);
  const InputView& rounded(int block, ThreadPool& pool);
  /// The values as kernels of f16 and bf16 take them.
  const InputView& steps(ThreadPool& pool);
  /// Adds one whose arrays fill(codes, scales, code_sums) writes.
  template <class Fill>
  const InputView& add_rounded(int block, const Fill& fill);
  /// Rounds `values`, which this refers to, and keeps the integers that they become.
  void take_integers(const InputRounding& rounding, float* values, ThreadPool& pool);
  /// The values as a matrix wants them, made once each.
  struct Prepared {
    InputRounding rounding;
    ColumnOrder order;
    std::unique_ptr<float[]> values;
    std::unique_ptr<Input> input;
  };
  Input& prepared(const InputRounding& rounding, const ColumnOrder& order, ThreadPool& pool);

  InputView view_;
  Precision precision_;
  std::span<const std::int64_t> sequences_;
  std::vector<Rounded> rounded_;    // by block, made once each
  std::unique_ptr<float[]> steps_;  // of view_
  std::vector<Prepared> prepared_;
};

/// All kernels, every packing on every instruction set this build has.
std::span<const Kernel* const> kernel_registry();
/// nullptr if there is none.
const Kernel* find_kernel(Packing packing, std::string_view isa);

}  // namespace nibble
