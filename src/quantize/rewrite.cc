#include "quantize/rewrite.h"

#include <algorithm>
#include <cmath>

#include "calib/stream.h"

namespace nibble {
namespace {

// Rewritten weights are products rounded to float32, relative error 2^-24 each; sums of at most
// 2^15 of them, through a dozen layers of a block, stay far below this part of the largest output.
constexpr double kTolerance = 1e-3;

struct FoldScales {
  const Fold* fold;
  std::vector<float> scales;
};

class Rewriter {
 public:
  Rewriter(Model& model, const RewriteOptions& options, ThreadPool& pool)
      : model_(model), options_(options), pool_(pool) {
    for (const Weight& weight : model.graph().weights) layers_[weight.name] = weight.layer;
    for (const auto& block : model.graph().blocks)
      for (const Node& node : block)
        if (node.kind == Node::Kind::linear) taps_[node.weight] = node.tap;
  }

  /// What one transform does to every fold, on what the present weights produce.
  Result<std::vector<FoldScales>> choose(const Transform& transform, const Corpus& corpus,
                                         Progress& progress) {
    NIBBLE_TRY(BlockStream stream,
               BlockStream::open(model_, corpus, options_.threads, options_.folder));
    std::vector<FoldScales> out;
    const std::size_t blocks = model_.graph().blocks.size();
    progress.begin(fmt::format("choosing scales ({})", transform.id()), blocks, "blocks");
    for (std::size_t b = 0; b < blocks; ++b) {
      NIBBLE_DO(stream.pass(int(b), progress));
      for (const Fold& fold : model_.graph().folds) {
        if (layers_.at(fold.from) != int(b)) continue;
        NIBBLE_TRY_IN(fold.from, auto scales, scales_of(transform, fold, stream));
        if (!scales.empty()) out.push_back({&fold, std::move(scales)});
      }
      progress.update(b + 1);
    }
    progress.end();
    return out;
  }

  void apply(const std::vector<FoldScales>& all) {
    for (const auto& [fold, scales] : all) {
      std::vector<float> inverse(scales.size());
      for (std::size_t j = 0; j < scales.size(); ++j) inverse[j] = 1 / scales[j];
      model_.rescale(fold->from, inverse, {});
      for (const std::string& reader : fold->to) model_.rescale(reader, {}, scales);
    }
  }

 private:
  Result<std::vector<float>> scales_of(const Transform& transform, const Fold& fold,
                                       BlockStream& stream) {
    const TapMoments* moments = stream.moments(taps_.at(fold.to.front()));
    if (!moments) return std::vector<float>{};
    FoldTask task{.from = {},
                  .to = {},
                  .moment = &moments->train,
                  .held_out = &moments->held_out,
                  .rounder = options_.rounder};
    const std::size_t from = *model_.find(fold.from);
    if (model_.tensors()[from].shape.size() == 1) {
      task.from.resize(model_.tensors()[from].elements());
      model_.load_rows(from, 0, 1, task.from.data());
    }
    for (const std::string& name : fold.to) {
      const auto format = options_.formats.find(name);
      if (format == options_.formats.end()) return std::vector<float>{};
      const std::size_t index = *model_.find(name);
      RoundTask& reader = task.to.emplace_back();
      reader.rows = std::int64_t(model_.tensors()[index].rows());
      reader.columns = std::int64_t(model_.tensors()[index].columns());
      reader.format = format->second;
      reader.load = [this, index](std::int64_t begin, std::int64_t end, float* out) {
        model_.load_rows(index, std::uint64_t(begin), std::uint64_t(end), out);
      };
    }
    return transform.scales(task, pool_);
  }

  Model& model_;
  const RewriteOptions& options_;
  ThreadPool& pool_;
  std::map<std::string, int> layers_;
  std::map<std::string, std::string> taps_;
};

/// The largest difference between what two models' blocks make of the same, relative to the largest
/// output.
Result<double> difference(const Model& a, const Model& b, int block, int threads,
                          std::vector<float>& hidden) {
  std::vector<float> other = hidden;
  const std::size_t tokens = hidden.size() / a.config().hidden;
  for (const auto& [model, rows] : {std::pair(&a, &hidden), std::pair(&b, &other)}) {
    NIBBLE_TRY(const auto runtime, Runtime::load(*model, {.threads = threads,
                                                          .precision = Precision::exact,
                                                          .block = block,
                                                          .round_inputs = false}));
    NIBBLE_DO(Session(*runtime, std::uint32_t(tokens)).advance(*rows));
  }
  double most = 0, largest = 0;
  for (std::size_t i = 0; i < hidden.size(); ++i) {
    most = std::max(most, std::abs(double(hidden[i]) - double(other[i])));
    largest = std::max(largest, std::abs(double(hidden[i])));
  }
  return largest > 0 ? most / largest : most;
}

Status check_function(const Model& model, const std::vector<Token>& window,
                      const RewriteOptions& options, Progress& progress) {
  NIBBLE_TRY(const Model original, Model::open(options.source));
  std::vector<float> hidden = embed(original, window);
  const std::size_t blocks = model.graph().blocks.size();
  progress.begin("checking that nothing changed", blocks, "blocks");
  for (std::size_t b = 0; b < blocks; ++b) {
    NIBBLE_TRY(const double apart, difference(original, model, int(b), options.threads, hidden));
    if (!(apart <= kTolerance))
      return fail(ErrorCode::internal,
                  "{}: the transforms change what block {} computes, by {:.2g} of its outputs",
                  options.source, b, apart);
    progress.update(b + 1);
  }
  progress.end();
  return {};
}

}  // namespace

Status rewrite(Model& model, const std::vector<const Transform*>& transforms, const Corpus& corpus,
               const RewriteOptions& options, Progress& progress) {
  ThreadPool pool(options.threads);
  for (const Transform* transform : transforms) {
    for (const Turn& turn : model.graph().turns) {
      const std::vector<float> matrix = transform->turn(turn.width);
      if (matrix.empty()) continue;
      model.turn_rows(turn.from, matrix, turn.width);
      model.turn_columns(turn.to, matrix, turn.width);
    }
    if (!transform->scales_folds()) continue;
    Rewriter rewriter(model, options, pool);
    NIBBLE_TRY(const auto scales, rewriter.choose(*transform, corpus, progress));
    rewriter.apply(scales);
  }
  return check_function(model, corpus.windows.front(), options, progress);
}

}  // namespace nibble
