#include "quantize/judge.h"

#include <algorithm>

#include "calib/stream.h"
#include "eval/metrics.h"

namespace nibble {
namespace {

constexpr std::size_t kLogitBytes = 256u << 20;  // of the original's predictions, at most

Session session_for(Runtime& runtime, const std::vector<std::vector<Token>>& windows) {
  std::size_t longest = 0;
  for (const auto& window : windows) longest = std::max(longest, window.size());
  return Session(runtime, std::uint32_t(longest));
}

}  // namespace

/// Logits of the tokens of a window that are scored.
Result<std::span<const float>> Judge::predict(Session& session, std::size_t window) const {
  const std::span<const Token> tokens = windows_[window];
  const std::size_t first = tokens.size() - scored(windows_[window]);
  session.truncate(0);
  if (first > 0) {
    NIBBLE_TRY([[maybe_unused]] const auto none,
               session.forward(tokens.first(first), Session::Logits::none));
  }
  return session.forward(tokens.subspan(first), Session::Logits::all);
}

Result<Judge> Judge::open(const Model& model, std::vector<std::vector<Token>> windows,
                          std::size_t lead, int threads, Progress& progress) {
  Judge out(model, lead, threads);
  NIBBLE_TRY(out.runtime_,
             Runtime::load(model, {.threads = threads, .precision = Precision::exact}, progress));
  std::size_t bytes = 0;
  for (std::vector<Token>& window : windows) {
    bytes += out.scored(window) * model.config().vocab * sizeof(float);
    if (!out.windows_.empty() && bytes > kLogitBytes) break;
    out.windows_.push_back(std::move(window));
  }
  Session session = session_for(*out.runtime_, out.windows_);
  for (std::size_t w = 0; w < out.windows_.size(); ++w) {
    NIBBLE_TRY(const auto logits, out.predict(session, w));
    out.reference_.emplace_back(logits.begin(), logits.end());
  }
  return out;
}

Status Judge::put(const std::string& weight, const Format& format,
                  std::span<const std::byte> bytes) {
  return runtime_->replace(weight, format, bytes);
}

Status Judge::restore(const std::string& weight) {
  const std::size_t index = *model_->find(weight);
  const TensorInfo& tensor = model_->tensors()[index];
  std::vector<std::byte> bytes(tensor.bytes);
  model_->load_bytes(index, 0, tensor.rows(), bytes.data());
  model_->release_rows(index, 0, tensor.rows());
  return runtime_->replace(weight, *tensor.format, bytes);
}

int Judge::block_of(const std::string& weight) const {
  for (const Weight& each : model_->graph().weights)
    if (each.name == weight) return each.layer;
  return -1;
}

/// Brings the hidden states to the beginning of a block; all before it is as in the original.
Status Judge::enter(int block) {
  if (hidden_.empty() || block < block_) {
    hidden_.clear();
    for (const auto& window : windows_) hidden_.push_back(embed(*model_, window));
    block_ = 0;
  }
  Session session = session_for(*runtime_, windows_);
  for (auto& hidden : hidden_) NIBBLE_DO(session.advance(hidden, block_, block));
  block_ = block;
  return {};
}

Result<double> Judge::divergence(int block) {
  Session session = session_for(*runtime_, windows_);
  const int blocks = int(model_->graph().blocks.size());
  if (block >= 0) NIBBLE_DO(enter(block));
  std::vector<float> hidden;
  const Predict predict_from = [&](std::size_t w) -> Result<std::span<const float>> {
    if (block < 0) return predict(session, w);
    hidden = hidden_[w];
    NIBBLE_DO(session.advance(hidden, block, blocks));
    const std::size_t rows = scored(windows_[w]) * (hidden.size() / windows_[w].size());
    return session.predict(std::span<const float>(hidden).last(rows));
  };
  NIBBLE_TRY(const Judgement found, judge(runtime_->pool(), predict_from));
  return found.kld;
}

void Judge::unload() {
  runtime_.reset();
  hidden_.clear();
}

Result<Judgement> Judge::judge(const std::string& path) const {
  NIBBLE_TRY(const Model model, Model::open(path));
  NIBBLE_TRY_IN(path, const auto runtime,
                Runtime::load(model, {.threads = threads_, .precision = Precision::exact}));
  Session session = session_for(*runtime, windows_);
  return judge(runtime->pool(), [&](std::size_t w) { return predict(session, w); });
}

Result<Judgement> Judge::judge(ThreadPool& pool, const Predict& predict) const {
  const std::size_t vocab = model_->config().vocab;
  Judgement sum;
  std::size_t followed = 0;  // tokens with a next one
  for (std::size_t w = 0; w < windows_.size(); ++w) {
    NIBBLE_TRY(const auto logits, predict(w));
    const std::span<const float> reference = reference_[w];
    const std::span<const Token> next = std::span(windows_[w]).last(logits.size() / vocab - 1);
    std::vector<Comparison> each(next.size() + 1);
    pool.run(std::int64_t(each.size()), 1, [&](std::int64_t i, std::int64_t) {
      const std::size_t at = std::size_t(i) * vocab;
      each[std::size_t(i)] =
          compare_logits(logits.subspan(at, vocab), reference.subspan(at, vocab),
                         std::size_t(i) < next.size() ? next[std::size_t(i)] : 0);
    });
    for (const Comparison& one : each) sum.kld += one.kld;
    each.pop_back();
    for (const Comparison& one : each) sum.nll += one.nll, sum.reference_nll += one.reference_nll;
    sum.tokens += each.size() + 1, followed += each.size();
  }
  sum.kld /= double(sum.tokens);
  const double n = double(std::max<std::size_t>(1, followed));
  sum.nll /= n, sum.reference_nll /= n;
  return sum;
}

}  // namespace nibble
