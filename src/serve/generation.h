// What is asked of a model, and what comes back piece by piece.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "graph/runtime.h"
#include "text/grammar.h"
#include "text/tokenizer.h"

namespace nibble {

struct GenerationRequest {
  std::vector<Token> prompt;    // not empty, within the context
  SamplerOptions sampler = {};  // choice i has the seed sampler.seed + i
  std::uint32_t limit = 0;      // tokens
  std::vector<std::string> stop = {};
  int choices = 1;
  std::optional<int> top_logprobs = {};         // logprobs are wanted, with this many alternatives
  std::shared_ptr<const Matcher> grammar = {};  // that the text must follow; null: none
  bool embed = false;        // instead of text: the mean of the final hidden states
  std::uint32_t scored = 0;  // instead of text: the logits of that many last tokens of the prompt
};

enum class FinishReason { stop, length, failed };

struct ScoredToken {
  std::string bytes;
  double logprob = 0;
};

struct TokenScores {
  ScoredToken token;
  std::vector<ScoredToken> top;  // best first
};

/// What happened to a choice since its last event.
struct GenerationEvent {
  int choice = 0;
  std::string text = {};
  std::vector<TokenScores> scores = {};
  std::uint32_t tokens = 0;                 // generated so far
  std::optional<FinishReason> finish = {};  // the last event of the choice
  std::string error = {};                   // failed: why
  std::vector<float> embedding = {};
  std::vector<float> logits = {};  // [scored][vocab]
  std::uint32_t reused = 0;        // tokens of the prompt that were in the cache
};

/// A request under way, between the thread of a client and that of a model.
class GenerationJob {
 public:
  using Clock = std::chrono::steady_clock;
  explicit GenerationJob(GenerationRequest r, Clock::time_point until)
      : request(std::move(r)), deadline(until) {}

  const GenerationRequest request;
  const Clock::time_point deadline;
  const Clock::time_point submitted = Clock::now();

  /// The next event, or nothing within `patience`.
  std::optional<GenerationEvent> next(std::chrono::milliseconds patience) {
    std::unique_lock lock(mutex_);
    if (!ready_.wait_for(lock, patience, [&] { return !events_.empty(); })) return std::nullopt;
    GenerationEvent event = std::move(events_.front());
    events_.pop_front();
    return event;
  }
  void push(GenerationEvent event) {
    const std::lock_guard lock(mutex_);
    events_.push_back(std::move(event));
    ready_.notify_one();
  }
  void cancel() { cancelled_ = true; }
  bool cancelled() const { return cancelled_; }

 private:
  std::mutex mutex_;
  std::condition_variable ready_;
  std::deque<GenerationEvent> events_;
  std::atomic<bool> cancelled_ = false;
};

}  // namespace nibble
