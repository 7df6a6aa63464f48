// Runs a graph: weights packed for the processor, a key-value cache for each sequence.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "arch/arch.h"
#include "base/threads.h"
#include "graph/pages.h"
#include "kernel/matrix.h"
#include "nibble/progress.h"

namespace nibble {

struct RuntimeOptions {
  int threads = 0;  // < 1: one per core
  Precision precision = Precision::fast;
  /// How keys and values are kept (kernel/caches.h). Empty: exact keeps float32, fast fp16.
  std::string cache = "";
  /// Directory of packed weights (graph/packed_cache.h): what is there is mapped, what is not is
  /// packed and written. Empty: nothing is kept.
  std::string packed = "";
  /// Load this transformer block only, for Session::advance; < 0: the whole model.
  int block = -1;
  /// Round the inputs of matrices as the checkpoint says, unless a transform has rewritten them.
  bool round_inputs = true;
};

/// A loaded model. Immutable after loading; sessions refer to it and use its threads one at a time.
/// Results are the same for every number of threads.
class Runtime {
 public:
  /// Errors: a tensor that cannot be run, NaN in a norm or bias, an unusable NIBBLE_ISA, a cache of
  /// no type that there is, packed weights that cannot be written, cancelled.
  static Result<std::unique_ptr<Runtime>> load(const Model& model,
                                               const RuntimeOptions& options = {},
                                               Progress& progress = no_progress());
  /// A runtime whose weights are all zero, matrices in the formats that `format` gives: as fast as
  /// one with weights, and there at once. For measuring.
  static Result<std::unique_ptr<Runtime>> blank(
      const Graph& graph, const std::function<const Format&(const Weight&)>& format,
      const RuntimeOptions& options = {});
  ~Runtime();

  /// Puts other bytes of the same shape in place of a weight matrix, when no session is running.
  Status replace(const std::string& weight, const Format& format, std::span<const std::byte> bytes,
                 const ColumnOrder& order = nullptr);

  const Graph& graph() const;
  ThreadPool& pool();
  Precision precision() const;
  const CacheOps& cache() const;
  /// Whether what a token gets depends on the tokens that run with it (LLM.int8).
  bool mixes_tokens() const;
  std::uint64_t weight_bytes() const;  // memory held by packed weights
  std::uint64_t read_bytes() const;    // of them, for each token that is generated
  std::uint64_t products() const;      // multiplications and additions with them, a prompt's token

 private:
  friend class Session;
  friend class Batch;
  friend class Executor;
  struct State;
  explicit Runtime(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

/// Called once for each tap with what the linear layers of that name read: values [tokens][width].
/// The tap of the head is reached only where logits are wanted.
using TapFunction = std::function<void(const std::string& tap, const float* values,
                                       std::int64_t tokens, std::int64_t width)>;

/// Which of the given tokens' logits are wanted.
enum class Logits { last, all, none };

/// One sequence of tokens and its key-value cache. Not to be used by two threads at once.
class Session {
 public:
  using Logits = nibble::Logits;

  /// `context`: positions the cache can hold (at most; memory grows as needed). `pages`: memory
  /// shared with other sessions of the same runtime, which must not run at the same time; without,
  /// its own.
  Session(Runtime& runtime, std::uint32_t context, std::shared_ptr<KvPagePool> pages = nullptr);
  ~Session();
  Session(Session&&) noexcept;
  Session& operator=(Session&&) noexcept;

  std::uint32_t position() const;  // tokens in the cache
  std::uint32_t context() const;
  void truncate(std::uint32_t position);  // forgets everything from there on

  /// Begins the sequence anew with as many of the tokens as its shared memory already holds: whole
  /// pages that other sequences computed. Returns the position.
  std::uint32_t reuse(std::span<const std::uint32_t> tokens);
  /// For measuring: begins the sequence anew as if it had `tokens` tokens, whose keys and values
  /// are zero. Not for sessions that share memory. Errors as of forward().
  Status pretend(std::uint32_t tokens);
  /// Appends tokens (at least one). Logits [wanted][vocab] stay valid until the next call. Tokens
  /// may come in any portions, which change no bit of the results (except where a checkpoint rounds
  /// inputs as LLM.int8 does).
  /// Errors: token outside the vocabulary, context full, no memory left for keys and values,
  /// non-finite logits (a broken model); the session keeps the tokens of a call that failed with
  /// non-finite logits.
  Result<std::span<const float>> forward(std::span<const std::uint32_t> tokens,
                                         Logits wanted = Logits::last);

  /// Appends tokens; the mean over them of what the head reads (the output of the final norm).
  Result<std::vector<float>> embed(std::span<const std::uint32_t> tokens);

  /// hidden [tokens][embedding], what the blocks before `first` made of the first tokens of a
  /// sequence, becomes what those before `last` make of them. (A runtime of one block has it as its
  /// block 0.) Errors: more tokens than the context, values that are not finite.
  Status advance(std::span<float> hidden, int first = 0, int last = 1);
  /// For a runtime of one block: the same as far as the last tap, which must be set; what the block
  /// makes of the tokens is not computed to the end.
  Status listen(std::span<const float> hidden);
  /// Logits [tokens][vocab] of what the last block made of tokens, valid until the next call.
  Result<std::span<const float>> predict(std::span<const float> hidden);

  void set_tap(TapFunction tap);

 private:
  friend class Batch;
  struct State;
  template <class Use>
  Status each_chunk(std::span<const float> hidden, int entry, const Use& use);
  std::unique_ptr<State> state_;
};

/// Advances several sessions of one runtime with one pass over its weights. What a session gets is
/// what it would get alone, bit for bit.
class Batch {
 public:
  static constexpr std::size_t kTokens = 512;  // at most, of all parts together

  struct Part {
    Session* session;  // each at most once
    std::span<const std::uint32_t> tokens;
    Logits wanted = Logits::last;
  };

  explicit Batch(Runtime& runtime);
  ~Batch();

  /// Errors as of Session::forward, before anything is run; no session has advanced then.
  Status forward(std::span<const Part> parts);
  /// Logits [wanted][vocab] of a part, valid until the next forward(). Error: not finite.
  Result<std::span<const float>> logits(std::size_t part) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Applied in this order: repetition penalty, presence and frequency penalty, bias, a grammar's
/// mask, top-k, top-p, min-p, temperature.
struct SamplerOptions {
  float temperature = 0;         // 0: greedy
  int top_k = 0;                 // the k best; 0: all
  float top_p = 1;               // the fewest best whose probabilities reach top_p
  float min_p = 0;               // at least this share of the best one's probability
  float repetition_penalty = 1;  // of the last penalty_window tokens; 1: none
  int penalty_window = 64;
  float presence_penalty = 0;   // taken from the logits of tokens that were picked before
  float frequency_penalty = 0;  // the same, for every time
  std::vector<std::pair<std::uint32_t, float>> bias = {};  // added to the logits of tokens
  std::uint64_t seed = 0;
};

/// Picks tokens. Deterministic for a seed; ties go to the lower id.
class Sampler {
 public:
  explicit Sampler(const SamplerOptions& options);
  /// Remembers what it picked, for the penalties. `allowed`: bit i % 32 of word i / 32 says that
  /// token i may be picked, one at least may; empty: any.
  std::uint32_t pick(std::span<const float> logits, std::span<const std::uint32_t> allowed = {});
  void accept(std::uint32_t token);  // remembers a token of the prompt

 private:
  std::span<const float> change(std::span<const float> logits,
                                std::span<const std::uint32_t> allowed);
  std::uint32_t draw(std::span<const float> logits);

  SamplerOptions options_;
  std::uint64_t state_;
  std::vector<std::uint32_t> recent_;
  std::unordered_map<std::uint32_t, int> picked_;  // how often, if that is penalized
  std::vector<float> changed_;
};

}  // namespace nibble
