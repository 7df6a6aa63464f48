// A weight matrix ready to be multiplied with, whatever format it was stored in.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "base/result.h"
#include "base/threads.h"
#include "format/format.h"
#include "kernel/kernel.h"

namespace nibble {

/// How inputs of products with quantized weights are represented.
enum class Precision {
  exact,  // float32: the reference for evaluation
  fast,   // rounded to 8 bits, as every fast runtime does
};

/// Where a packed matrix comes from: rows of blocks, or a function that gives rows as float32.
class Matrix {
 public:
  Matrix() = default;

  /// Repacks `bytes` (rows of format.row_bytes(columns)) into panels. Errors: unknown NIBBLE_ISA.
  static Result<Matrix> pack(const Format& format, std::int64_t rows, std::int64_t columns,
                             std::span<const std::byte> bytes, ThreadPool& pool);

  std::int64_t rows() const { return view_.rows; }
  std::int64_t columns() const { return view_.columns; }
  const PackedView& view() const { return view_; }
  std::size_t bytes() const;  // of memory held

  /// One row as float32, for embeddings.
  void row(std::int64_t index, float* out) const;

 private:
  friend class Product;
  PackedView view_{};
  const Kernel* kernel_ = nullptr;
  std::shared_ptr<void> storage_;
};

/// The inputs of one or more products, with their 8-bit form made once and only if needed.
class Input {
 public:
  /// Keeps a reference to `values` ([tokens][columns]).
  Input(const float* values, std::int64_t tokens, std::int64_t columns, Precision precision);
  /// out[t * out_stride + r] (+= nothing): the product with every row of `w`, plus bias[r] where
  /// bias is not null.
  void multiply(const Matrix& w, const float* bias, float* out, std::int64_t out_stride,
                ThreadPool& pool);

 private:
  InputView view_;
  Precision precision_;
  bool quantized_ = false;
  std::unique_ptr<std::byte[]> storage_;
};

std::span<const Kernel* const> kernel_registry();

}  // namespace nibble
