#include "compare/weights.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace nibble {
namespace {

constexpr std::int64_t kPanel = 16;  // rows at a time
constexpr float kSameNorm = 0.01f;   // relative; bf16 rounds to 0.004

/// What the model's weights have to be multiplied with to be the original's. Empty: 1.
struct Scales {
  std::vector<float> rows, columns;
};

struct Pair {
  std::size_t original, model;  // indices of the tensors
  std::uint64_t rows, columns;
};

/// Sums over a row: o², m², o·m, (o - m)².
struct RowSums {
  double original = 0, model = 0, both = 0, difference = 0;
};

class WeightComparer {
 public:
  WeightComparer(const Model& original, const Model& model, ThreadPool& pool)
      : original_(original), model_(model), pool_(pool) {}

  /// None if either lacks it, or the shapes differ.
  std::optional<Pair> pair(const std::string& name) const {
    const auto a = original_.find(name), b = model_.find(name);
    if (!a || !b) return {};
    const TensorInfo& tensor = original_.tensors()[*a];
    if (tensor.shape != model_.tensors()[*b].shape) return {};
    return Pair{*a, *b, tensor.rows(), tensor.columns()};
  }

  /// Norms come first: what they gave away is known to the last bit. Then the rows of matrices that
  /// gave scales away, by least squares.
  void find_scales() {
    for (const Fold& fold : original_.graph().folds)
      if (const auto from = pair(fold.from); from && from->rows == 1) take_norm(fold, *from);
    if (!rescaled_) return;
    for (const Fold& fold : original_.graph().folds)
      if (const auto from = pair(fold.from); from && from->rows > 1) take_rows(fold, *from);
  }

  double relative_error(const std::string& name, const Pair& pair) const {
    RowSums sum;
    for (const RowSums& row : sums(name, pair))
      sum.original += row.original, sum.difference += row.difference;
    return sum.original > 0 ? sum.difference / sum.original : 0;
  }

  bool rescaled() const { return rescaled_; }

 private:
  /// How much larger the original's channels of a norm are.
  void take_norm(const Fold& fold, const Pair& pair) {
    std::vector<float> original(pair.columns), model(pair.columns);
    original_.load_rows(pair.original, 0, 1, original.data());
    model_.load_rows(pair.model, 0, 1, model.data());
    const float largest =
        std::abs(*std::max_element(original.begin(), original.end(),
                                   [](float a, float b) { return std::abs(a) < std::abs(b); }));
    bool same = true;
    for (std::size_t j = 0; j < original.size(); ++j) {
      const float bound = kSameNorm * std::abs(original[j]) + kSameNorm * kSameNorm * largest;
      same = same && std::abs(original[j] - model[j]) <= bound;
      original[j] = model[j] != 0 ? original[j] / model[j] : 1;
    }
    if (same) return;
    rescaled_ = true;
    divide_columns(fold, original);
  }

  void take_rows(const Fold& fold, const Pair& pair) {
    std::vector<float> ratio;
    for (const RowSums& row : sums(fold.from, pair))
      ratio.push_back(row.model > 0 && row.both != 0 ? float(row.both / row.model) : 1);
    scales_[fold.from].rows = ratio;
    divide_columns(fold, ratio);
  }

  void divide_columns(const Fold& fold, const std::vector<float>& by) {
    for (const std::string& to : fold.to) {
      std::vector<float>& columns = scales_[to].columns;
      columns.resize(by.size());
      for (std::size_t j = 0; j < by.size(); ++j) columns[j] = by[j] != 0 ? 1 / by[j] : 1;
    }
  }

  std::vector<RowSums> sums(const std::string& name, const Pair& pair) const {
    std::vector<RowSums> out(pair.rows);
    const auto found = scales_.find(name);
    const Scales scales = found == scales_.end() ? Scales{} : found->second;
    const std::size_t columns = pair.columns;
    pool_.run(std::int64_t(pair.rows), kPanel, [&](std::int64_t begin, std::int64_t end) {
      std::vector<float> a(std::size_t(end - begin) * columns), b(a.size());
      original_.load_rows(pair.original, std::uint64_t(begin), std::uint64_t(end), a.data());
      model_.load_rows(pair.model, std::uint64_t(begin), std::uint64_t(end), b.data());
      for (std::size_t k = 0; k < a.size(); ++k) {
        const std::size_t row = std::size_t(begin) + k / columns, column = k % columns;
        if (!scales.rows.empty()) b[k] *= scales.rows[row];
        if (column < scales.columns.size()) b[k] *= scales.columns[column];
        const double x = a[k], y = b[k];
        out[row].original += x * x, out[row].model += y * y;
        out[row].both += x * y, out[row].difference += (x - y) * (x - y);
      }
    });
    original_.release_rows(pair.original, 0, pair.rows);
    model_.release_rows(pair.model, 0, pair.rows);
    return out;
  }

  const Model &original_, &model_;
  ThreadPool& pool_;
  std::unordered_map<std::string, Scales> scales_;
  bool rescaled_ = false;
};

/// "attn_q" of "blk.3.attn_q.weight".
std::string role_of(const Weight& weight) {
  const std::string block = fmt::format("blk.{}.", weight.layer);
  std::string role =
      weight.name.starts_with(block) ? weight.name.substr(block.size()) : weight.name;
  if (role.ends_with(".weight")) role.resize(role.size() - 7);
  return role;
}

}  // namespace

Result<WeightComparison> compare_weights(const Model& original, const Model& model,
                                         ThreadPool& pool, Progress& progress) {
  WeightComparer comparer(original, model, pool);
  comparer.find_scales();
  WeightComparison out;
  const std::vector<Weight>& weights = original.graph().weights;
  progress.begin("comparing weights", weights.size(), "tensors");
  for (std::size_t i = 0; i < weights.size(); ++i) {
    if (progress.cancelled()) return fail(ErrorCode::cancelled, "stopped while comparing weights");
    const Weight& weight = weights[i];
    if (const auto pair = comparer.pair(weight.name); pair && pair->rows > 1)
      out.matrices.push_back({role_of(weight), weight.layer,
                              std::string(model.tensors()[pair->model].format->id()),
                              comparer.relative_error(weight.name, *pair)});
    progress.update(i + 1);
  }
  progress.end();
  out.rescaled = comparer.rescaled();
  return out;
}

}  // namespace nibble
