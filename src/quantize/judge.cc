#include "quantize/judge.h"

#include <algorithm>
#include <numeric>

#include "eval/metrics.h"

namespace nibble {
namespace {

constexpr std::size_t kLogitBytes = 256u << 20;  // of the original's predictions, at most

std::size_t scored(const std::vector<Token>& window) { return window.size() - window.size() / 2; }

Session session_for(Runtime& runtime, const std::vector<std::vector<Token>>& windows) {
  std::size_t longest = 0;
  for (const auto& window : windows) longest = std::max(longest, window.size());
  return Session(runtime, std::uint32_t(longest));
}

/// Logits of the second half of a window.
Result<std::span<const float>> predict(Session& session, const std::vector<Token>& window) {
  const std::span<const Token> tokens = window;
  const std::size_t first = window.size() - scored(window);
  session.truncate(0);
  if (first > 0) {
    NIBBLE_TRY([[maybe_unused]] const auto none,
               session.forward(tokens.first(first), Session::Logits::none));
  }
  return session.forward(tokens.subspan(first), Session::Logits::all);
}

}  // namespace

Result<Judge> Judge::open(const Model& model, std::vector<std::vector<Token>> windows, int threads,
                          Progress& progress) {
  Judge out(model, threads);
  NIBBLE_TRY(out.runtime_,
             Runtime::load(model, {.threads = threads, .precision = Precision::exact}, progress));
  std::size_t bytes = 0;
  for (std::vector<Token>& window : windows) {
    bytes += scored(window) * model.config().vocab * sizeof(float);
    if (!out.windows_.empty() && bytes > kLogitBytes) break;
    out.windows_.push_back(std::move(window));
  }
  Session session = session_for(*out.runtime_, out.windows_);
  for (const auto& window : out.windows_) {
    NIBBLE_TRY(const auto logits, predict(session, window));
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

Result<double> Judge::divergence() { return divergence(*runtime_); }

void Judge::unload() { runtime_.reset(); }

Result<double> Judge::divergence_of(const std::string& path) const {
  NIBBLE_TRY(const Model model, Model::open(path));
  NIBBLE_TRY_IN(path, const auto runtime,
                Runtime::load(model, {.threads = threads_, .precision = Precision::exact}));
  return divergence(*runtime);
}

Result<double> Judge::divergence(Runtime& runtime) const {
  const std::size_t vocab = model_->config().vocab;
  Session session = session_for(runtime, windows_);
  double sum = 0;
  std::size_t count = 0;
  for (std::size_t w = 0; w < windows_.size(); ++w) {
    NIBBLE_TRY(const auto logits, predict(session, windows_[w]));
    const std::span<const float> reference = reference_[w];
    std::vector<double> each(logits.size() / vocab);
    runtime.pool().run(std::int64_t(each.size()), 1, [&](std::int64_t i, std::int64_t) {
      const std::size_t at = std::size_t(i) * vocab;
      each[std::size_t(i)] =
          compare_logits(logits.subspan(at, vocab), reference.subspan(at, vocab), 0).kld;
    });
    sum = std::accumulate(each.begin(), each.end(), sum);
    count += each.size();
  }
  return sum / double(count);
}

}  // namespace nibble
