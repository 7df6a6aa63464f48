// How Hugging Face checkpoints keep quantized matrices: a matrix is several tensors, codes here and
// scales there, laid out as some kernel likes them. One file a scheme.
//
// A scheme gives them nibble's own form (format/): blocks of columns of a row, one after the other;
// and makes its own of that.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "container/raw_tensor.h"
#include "container/source.h"

namespace nibble {

/// One matrix.
class PackedTensor {
 public:
  PackedTensor(TensorInfo info, std::vector<std::string> parts)
      : info_(std::move(info)), parts_(std::move(parts)) {}
  virtual ~PackedTensor() = default;

  const TensorInfo& info() const { return info_; }
  /// Names of the tensors that it is made of.
  const std::vector<std::string>& parts() const { return parts_; }

  /// One block of a row: the fields that its format stores, and its codes.
  virtual void block(std::uint64_t row, std::uint64_t index, Grid& grid, Code* codes) const = 0;
  /// Rows [begin, end) as the format's bytes. Thread-safe.
  void read(std::uint64_t begin, std::uint64_t end, std::byte* out) const;

 private:
  TensorInfo info_;
  std::vector<std::string> parts_;
};

/// A tensor to be written.
struct PartInfo {
  std::string name;
  const Dtype* dtype = nullptr;
  std::vector<std::uint64_t> shape;
  std::uint64_t bytes() const;
};

/// How matrices are written, with every choice that a scheme has made.
class Packer {
 public:
  virtual ~Packer() = default;
  virtual const Format& format() const = 0;
  /// The rounding that everybody expects of such files; empty: the best there is.
  virtual std::string_view usual_rounding() const { return ""; }
  /// The transform that goes before error feedback; empty: none.
  virtual std::string_view usual_transform() const { return ""; }
  /// Groups are of columns that matter alike, not of neighbours (TensorInfo::order).
  virtual bool act_order() const { return false; }
  /// The largest input of each matrix must be known: what is stored of their rounding follows.
  virtual bool needs_largest_input() const { return false; }
  virtual InputRounding stored_inputs(float) const { return {}; }
  /// config.json gets these fields; `kept`: linear layers that are not quantized.
  virtual Json settings(const std::vector<std::string>& kept) const = 0;
  /// The tensors that a matrix becomes. weight.name is its name in an unquantized checkpoint, the
  /// format is format(), the inputs are stored_inputs(). Error: a shape that the scheme cannot
  /// hold.
  virtual Result<std::vector<PartInfo>> parts(const TensorInfo& weight) const = 0;
  /// Fills the parts, all of them 0 before, with the rows that `rows` holds in the format's bytes.
  virtual void pack(const TensorInfo& weight, std::span<const std::byte> rows,
                    std::span<const std::span<std::byte>> parts) const = 0;

 protected:
  /// fn(row, index of the block in it, grid, codes) for every block.
  template <class Fn>
  static void for_each_block(const TensorInfo& weight, std::span<const std::byte> rows, Fn fn) {
    const Format& format = *weight.format;
    const std::uint64_t blocks = weight.columns() / std::uint64_t(format.block());
    Code codes[kMaxBlock];
    Grid grid;
    const std::byte* at = rows.data();
    for (std::uint64_t row = 0; row < weight.rows(); ++row)
      for (std::uint64_t b = 0; b < blocks; ++b, at += format.spec().bytes) {
        format.unpack(at, grid, codes);
        fn(row, b, grid, codes);
      }
  }
};

struct Unpacked {
  std::vector<std::unique_ptr<PackedTensor>> tensors = {};
  std::vector<std::string> notes = {};  // what is odd about them
};

class Scheme {
 public:
  virtual ~Scheme() = default;
  virtual std::string_view id() const = 0;                // quant_method
  virtual std::string_view name() const { return id(); }  // what people write for short
  /// What loads such checkpoints ("transformers"), and how to install what that needs.
  virtual std::string_view library() const { return "transformers"; }
  virtual std::string_view install() const = 0;
  /// The settings in config.json, or nullptr if they are not of this scheme.
  virtual const Json* settings(const Json& config) const;
  /// Finds the matrices among the tensors of a checkpoint, which outlive the result. Hostile input:
  /// errors name the tensor or the field.
  virtual Result<Unpacked> unpack(const Json& settings, const RawTensors& tensors) const = 0;
  /// How it writes what `text` says ("int4-g128"). Error: says what there is.
  virtual Result<std::unique_ptr<Packer>> packer(std::string_view text) const = 0;
  /// Tensors that are no weights and that nibble has no use for.
  virtual bool ignores(std::string_view) const { return false; }
};

std::span<const Scheme* const> scheme_registry();
/// By its id or its name; nullptr if there is none.
const Scheme* find_scheme(std::string_view name);

/// "int4-g128-sym" as writers understand it: a type, then options in any order, each at most once.
class PackingText {
 public:
  explicit PackingText(std::string_view text);
  std::string_view type() const { return type_; }
  /// Takes an option away, if it is there.
  bool take(std::string_view option);
  /// Takes "g128" away: its number, or `otherwise`. "gchannel" and "g-1" are 0: one group a row.
  Result<std::uint64_t> take_group(std::uint64_t otherwise);
  /// Error: an option is left that nobody took.
  Status done() const;

 private:
  std::string text_;
  std::string_view type_;
  std::vector<std::string_view> options_;
};

/// What a reader knows of a matrix of integers in groups.
struct Integers {
  unsigned bits = 0;
  std::uint64_t columns = 0;
  std::uint64_t group = 0;  // columns; 0: all
  bool zero_point = false;
  const Dtype* scales = nullptr;
};
/// The format of such a matrix. Groups that no format has are cut into equal ones.
Result<const Format*> integer_format(const Integers& integers);

/// The name, shape, format and size of a matrix. `weight` is its name in an unquantized checkpoint.
Result<TensorInfo> matrix_info(const std::string& weight, std::uint64_t rows, std::uint64_t columns,
                               const Format& format);

/// The order in which columns of a group stand together, of the group that each is of (I32
/// [columns]); null: their own. Error: groups have other sizes than `group`.
Result<ColumnOrder> order_of_groups(const RawTensor& group_of, std::uint64_t group);

/// "model.layers.0.mlp.up_proj" of "model.layers.0.mlp.up_proj.qweight", if it ends so.
std::optional<std::string> stem_of(const std::string& name, std::string_view ending);

}  // namespace nibble
