#include "calib/stream.h"

#include <algorithm>

namespace nibble {

std::vector<float> embed(const Model& model, std::span<const Token> tokens) {
  const Graph& graph = model.graph();
  const Node& node = graph.before.back();
  NIBBLE_CHECK(graph.before.size() == 1 && node.kind == Node::Kind::embed);
  const std::size_t width = graph.slot_width[std::size_t(node.out)];
  const std::size_t table = *model.find(node.weight);
  std::vector<float> rows(tokens.size() * width);
  for (std::size_t i = 0; i < tokens.size(); ++i)
    model.load_rows(table, tokens[i], tokens[i] + 1, rows.data() + i * width);
  for (float& value : rows) value *= node.scale;
  return rows;
}

Result<BlockStream> BlockStream::open(const Model& model, const Corpus& corpus, int threads,
                                      const std::string& folder) {
  if (corpus.windows.size() < kHeldOut)
    return fail(ErrorCode::invalid,
                "{}: {} windows; error feedback needs at least {}: give a longer text", corpus.name,
                corpus.windows.size(), kHeldOut);
  BlockStream out(model, threads);
  out.begins_.push_back(0);
  for (const auto& window : corpus.windows)
    out.begins_.push_back(out.begins_.back() + window.size());
  NIBBLE_TRY(out.hidden_, Activations::create(out.begins_.back(), model.config().hidden, folder));
  for (std::size_t w = 0; w < corpus.windows.size(); ++w)
    out.hidden_.write(out.begins_[w], embed(model, corpus.windows[w]));
  return out;
}

Status BlockStream::run(bool keep, const TapFunction& tap, const Progress& progress) {
  std::size_t longest = 0;
  for (std::size_t i = 0; i + 1 < begins_.size(); ++i)
    longest = std::max(longest, begins_[i + 1] - begins_[i]);
  Session session(*runtime_, std::uint32_t(longest));
  session.set_tap(tap);
  std::vector<float> rows;
  for (window_ = 0; window_ + 1 < begins_.size(); ++window_) {
    if (progress.cancelled()) return fail(ErrorCode::cancelled, "stopped");
    rows.resize((begins_[window_ + 1] - begins_[window_]) * hidden_.width());
    hidden_.read(begins_[window_], rows);
    NIBBLE_DO(keep ? session.advance(rows) : session.listen(rows));
    if (keep) hidden_.write(begins_[window_], rows);
  }
  return {};
}

Status BlockStream::load(int block) {
  runtime_.reset();
  moments_.clear();
  return Runtime::load(*model_,
                       {.threads = threads_, .precision = Precision::exact, .block = block})
      .map([&](auto&& loaded) { runtime_ = std::move(loaded); });
}

TapFunction BlockStream::sum() {
  return
      [this](const std::string& tap, const float* values, std::int64_t tokens, std::int64_t width) {
        MomentSums& sums = window_ % kHeldOut == kHeldOut - 1 ? held_out_ : train_;
        sums.add(tap, values, tokens, width, runtime_->pool());
      };
}

Status BlockStream::enter(int block, bool look, const Progress& progress) {
  NIBBLE_DO(load(block));
  return look ? run(false, sum(), progress) : Status{};
}

Status BlockStream::pass(int block, const Progress& progress) {
  NIBBLE_DO(load(block));
  return run(true, sum(), progress);
}

const TapMoments* BlockStream::moments(const std::string& tap) {
  if (const auto found = moments_.find(tap); found != moments_.end()) return &found->second;
  auto train = train_.take(tap), held_out = held_out_.take(tap);
  if (!train || !held_out) return nullptr;
  return &moments_.emplace(tap, TapMoments{std::move(*train), std::move(*held_out)}).first->second;
}

Status BlockStream::replace(const std::string& weight, const Format& format,
                            std::span<const std::byte> bytes, const ColumnOrder& order) {
  return runtime_->replace(weight, format, bytes, order);
}

Status BlockStream::leave(const Progress& progress) { return run(true, nullptr, progress); }

}  // namespace nibble
