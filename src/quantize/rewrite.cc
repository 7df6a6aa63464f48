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

/// What a check compares with the original. It sees the original's channels of the residual stream
/// turned as the model's are.
class Check {
 public:
  Check(const Model& original, const Model& model, const std::vector<Rotation>& turns,
        ThreadPool& pool)
      : original_(original), model_(model), turns_(turns), pool_(pool) {}

  Status run(const std::vector<Token>& window, Progress& progress) {
    hidden_ = embed(original_, window);
    std::vector<float> rows = hidden_;
    NIBBLE_DO(expect_same(turned(std::move(rows)), embed(model_, window), "the embedding"));
    const std::size_t blocks = model_.graph().blocks.size();
    progress.begin("checking that nothing changed", blocks, "blocks");
    for (std::size_t b = 0; b < blocks; ++b) {
      NIBBLE_DO(check_block(int(b)));
      progress.update(b + 1);
    }
    NIBBLE_DO(
        expect_same(outputs(original_, hidden_), outputs(model_, turned(hidden_)), "the head"));
    progress.end();
    return {};
  }

 private:
  /// Runs the block of both; hidden_ becomes what the original makes of it.
  Status check_block(int block) {
    std::vector<float> rows = turned(hidden_);
    const std::size_t tokens = hidden_.size() / original_.config().hidden;
    for (const auto& [model, values] :
         {std::pair(&original_, &hidden_), std::pair(&model_, &rows)}) {
      NIBBLE_TRY(const auto runtime, Runtime::load(*model, {.threads = pool_.size(),
                                                            .precision = Precision::exact,
                                                            .block = block,
                                                            .round_inputs = false}));
      NIBBLE_DO(Session(*runtime, std::uint32_t(tokens)).advance(*values));
    }
    return expect_same(turned(hidden_), rows, fmt::format("block {}", block));
  }

  std::vector<float> turned(std::vector<float> rows) const {
    const std::size_t width = original_.config().hidden;
    for (const Rotation& turn : turns_) turn.turn(rows.data(), 1, rows.size() / width, width);
    return rows;
  }

  /// Outputs of the head for the last token: the same dot products that a runtime computes, whose
  /// matrix would have to be whole in memory.
  std::vector<float> outputs(const Model& model, const std::vector<float>& hidden) const {
    const auto& after = model.graph().after;
    const auto head = std::ranges::find_if(after, [](const Node& node) { return node.head; });
    NIBBLE_CHECK(head == after.begin() + 1 && after[0].kind == Node::Kind::norm);
    const std::size_t width = model.config().hidden, norm = *model.find(after[0].weight);
    std::vector<float> x(width);
    model.load_rows(norm, 0, 1, x.data());
    double square = 0;
    const auto last = hidden.end() - std::ptrdiff_t(width);
    for (std::size_t j = 0; j < width; ++j) square += double(last[j]) * double(last[j]);
    const double rms = std::sqrt(square / double(width) + double(model.config().norm_eps));
    for (std::size_t j = 0; j < width; ++j) x[j] = float(double(x[j]) * double(last[j]) / rms);
    const std::size_t matrix = *model.find(head->weight);
    std::vector<float> out(model.config().vocab);
    pool_.run(std::int64_t(out.size()), 64, [&](std::int64_t begin, std::int64_t end) {
      std::vector<float> row(width);
      for (auto r = std::uint64_t(begin); r < std::uint64_t(end); ++r) {
        model.load_rows(matrix, r, r + 1, row.data());
        double sum = 0;
        for (std::size_t j = 0; j < width; ++j) sum += double(row[j]) * double(x[j]);
        out[r] = float(sum);
      }
    });
    model.release_rows(matrix, 0, out.size());
    return out;
  }

  /// Error: they differ by more than kTolerance of the largest.
  Status expect_same(const std::vector<float>& a, const std::vector<float>& b,
                     std::string_view what) const {
    double most = 0, largest = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
      most = std::max(most, std::abs(double(a[i]) - double(b[i])));
      largest = std::max(largest, std::abs(double(a[i])));
    }
    const double apart = largest > 0 ? most / largest : most;
    if (apart <= kTolerance) return {};
    return fail(ErrorCode::internal,
                "{}: the transforms change what {} computes, by {:.2g} of its outputs",
                original_.source().path(), what, apart);
  }

  const Model& original_;
  const Model& model_;
  const std::vector<Rotation>& turns_;
  ThreadPool& pool_;
  std::vector<float> hidden_;
};

/// The weights of a norm become 1, and the columns that read it larger.
void fold_norm(Model& model, const std::string& norm) {
  const auto& folds = model.graph().folds;
  const auto fold = std::ranges::find(folds, norm, &Fold::from);
  NIBBLE_CHECK(fold != folds.end());
  std::vector<float> weights(model.config().hidden);
  model.load_rows(*model.find(norm), 0, 1, weights.data());
  model.make_ones(norm);
  for (const std::string& reader : fold->to) model.rescale(reader, {}, weights);
}

void apply(Model& model, const Turn& turn, const Rotation& rotation) {
  for (const std::string& norm : turn.norms) fold_norm(model, norm);
  for (const std::string& weight : turn.rows) model.turn_rows(weight, rotation);
  for (const std::string& weight : turn.columns) model.turn_columns(weight, rotation);
}

}  // namespace

bool turns(const std::vector<const Transform*>& transforms, Channels channels) {
  return std::ranges::any_of(transforms,
                             [&](const Transform* each) { return each->turns() == channels; });
}

Status untie(Model& model, const std::vector<const Transform*>& transforms) {
  if (!turns(transforms, Channels::residual)) return {};
  model.untie_head();
  if (std::ranges::any_of(model.graph().turns,
                          [](const Turn& turn) { return turn.channels == Channels::residual; }))
    return {};
  return fail(ErrorCode::unsupported,
              "the residual stream of {} cannot be turned, for norms follow its attention and "
              "feed-forward; leave the transform rotate away, or take hadamard",
              model.arch().id());
}

std::uint64_t turned_bytes(const Model& model, const std::vector<const Transform*>& transforms) {
  std::uint64_t most = 0;
  for (const Turn& turn : model.graph().turns)
    for (const std::string& weight : turn.rows)
      if (turns(transforms, turn.channels))
        most = std::max(most, model.tensors()[*model.find(weight)].elements() * sizeof(float));
  return most;
}

Status rewrite(Model& model, const std::vector<const Transform*>& transforms, const Corpus& corpus,
               const RewriteOptions& options, Progress& progress) {
  ThreadPool pool(options.threads);
  std::vector<Rotation> residual;
  for (const Transform* transform : transforms) {
    if (transform->turns() == Channels::residual) residual.emplace_back(model.config().hidden);
    for (const Turn& turn : model.graph().turns)
      if (transform->turns() == turn.channels) apply(model, turn, Rotation(turn.width));
    if (transform->turns()) continue;
    Rewriter rewriter(model, options, pool);
    NIBBLE_TRY(const auto scales, rewriter.choose(*transform, corpus, progress));
    rewriter.apply(scales);
  }
  NIBBLE_TRY(const Model original, Model::open(options.source));
  return Check(original, model, residual, pool).run(corpus.windows.front(), progress);
}

}  // namespace nibble
