#include "calib/stream.h"

#include <algorithm>
#include <queue>

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
                                      const std::string& folder, bool reference) {
  if (corpus.windows.size() < kHeldOut)
    return fail(ErrorCode::invalid,
                "{}: {} windows; error feedback needs at least {}: give a longer text", corpus.name,
                corpus.windows.size(), kHeldOut);
  BlockStream out(model, threads);
  out.begins_.push_back(0);
  for (const auto& window : corpus.windows)
    out.begins_.push_back(out.begins_.back() + window.size());
  NIBBLE_TRY(out.hidden_, Activations::create(out.begins_.back(), model.config().hidden, folder));
  if (reference) {
    NIBBLE_TRY(out.reference_,
               Activations::create(out.begins_.back(), model.config().hidden, folder));
  }
  for (std::size_t w = 0; w < corpus.windows.size(); ++w) {
    const std::vector<float> rows = embed(model, corpus.windows[w]);
    out.hidden_.write(out.begins_[w], rows);
    if (reference) out.reference_->write(out.begins_[w], rows);
  }
  return out;
}

template <class Use>
Status BlockStream::each_window(const Progress& progress, const Use& use) {
  std::size_t longest = 0;
  for (std::size_t i = 0; i + 1 < begins_.size(); ++i)
    longest = std::max(longest, begins_[i + 1] - begins_[i]);
  Session session(*runtime_, std::uint32_t(longest));
  for (window_ = 0; window_ + 1 < begins_.size(); ++window_) {
    if (progress.cancelled()) return fail(ErrorCode::cancelled, "stopped");
    NIBBLE_DO(use(session));
  }
  return {};
}

std::vector<float> BlockStream::read(const Activations& waiting) const {
  std::vector<float> rows((begins_[window_ + 1] - begins_[window_]) * waiting.width());
  waiting.read(begins_[window_], rows);
  return rows;
}

Status BlockStream::advance(Activations& waiting, Session& session) {
  std::vector<float> rows = read(waiting);
  NIBBLE_DO(session.advance(rows));
  waiting.write(begins_[window_], rows);
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
        (held_out() ? held_out_ : train_).add(tap, values, tokens, width, runtime_->pool());
      };
}

Status BlockStream::enter(int block, bool look, const Progress& progress) {
  NIBBLE_DO(load(block));
  if (reference_) return pass_reference(look, progress);
  if (!look) return {};
  return each_window(progress, [&](Session& session) {
    session.set_tap(sum());
    return session.listen(read(hidden_));
  });
}

Status BlockStream::pass(int block, const Progress& progress) {
  NIBBLE_DO(load(block));
  return each_window(progress, [&](Session& session) {
    session.set_tap(sum());
    return advance(hidden_, session);
  });
}

Status BlockStream::pass_reference(bool look, const Progress& progress) {
  std::map<std::string, std::queue<std::vector<float>>> inputs;  // of the taps, by portion
  const TapFunction add = this->sum();
  const TapFunction listen = [&](const std::string& tap, const float* values, std::int64_t tokens,
                                 std::int64_t width) {
    add(tap, values, tokens, width);
    inputs[tap].emplace(values, values + tokens * width);
  };
  const TapFunction compare = [&](const std::string& tap, const float* values, std::int64_t tokens,
                                  std::int64_t width) {
    const std::vector<float> x = std::move(inputs.at(tap).front());
    inputs.at(tap).pop();
    std::vector<float> d(x.size());
    for (std::size_t i = 0; i < d.size(); ++i) d[i] = values[i] - x[i];
    (held_out() ? held_out_drift_ : train_drift_)
        .add(tap, d.data(), x.data(), tokens, width, runtime_->pool());
    if (held_out()) square_.add(tap, d.data(), tokens, width, runtime_->pool());
  };
  return each_window(progress, [&](Session& session) -> Status {
    session.set_tap(look ? listen : nullptr);
    if (look) NIBBLE_DO(session.listen(read(hidden_)));
    session.set_tap(look ? compare : nullptr);
    return advance(*reference_, session);
  });
}

const TapMoments* BlockStream::moments(const std::string& tap) {
  if (const auto found = moments_.find(tap); found != moments_.end()) return &found->second;
  auto train = train_.take(tap), held_out = held_out_.take(tap);
  if (!train || !held_out) return nullptr;
  TapMoments& out = moments_[tap];
  out = {std::move(*train), std::move(*held_out)};
  if (reference_)
    out.drift = Drift{*train_drift_.take(tap), *held_out_drift_.take(tap), *square_.take(tap)};
  return &out;
}

Status BlockStream::replace(const std::string& weight, const Format& format,
                            std::span<const std::byte> bytes, const ColumnOrder& order) {
  return runtime_->replace(weight, format, bytes, order);
}

Status BlockStream::leave(const Progress& progress) {
  return each_window(progress, [&](Session& session) { return advance(hidden_, session); });
}

}  // namespace nibble
