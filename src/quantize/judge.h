// How far a model's predictions move when matrices of it are exchanged.
#pragma once

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "arch/arch.h"
#include "graph/runtime.h"
#include "text/tokenizer.h"

namespace nibble {

/// Means over the judged tokens, in nats.
struct Judgement {
  double kld = 0;
  double nll = 0, reference_nll = 0;  // of the next token
  std::uint64_t tokens = 0;
};

class Judge {
 public:
  /// Runs the model as it is over `windows`. The first `lead` tokens of each (half of it at most)
  /// do not count. Holds the whole model, and its logits where they count. `model` must live as
  /// long.
  static Result<Judge> open(const Model& model, std::vector<std::vector<Token>> windows,
                            std::size_t lead, int threads, Progress& progress);

  /// Puts other bytes in place of a matrix, or its own again.
  Status put(const std::string& weight, const Format& format, std::span<const std::byte> bytes);
  Status restore(const std::string& weight);
  /// The block of a weight; -1: none.
  int block_of(const std::string& weight) const;
  /// Mean KL divergence of the model as it now is from the original, in nats a token. `block`: all
  /// before it is as in the original, which saves the way there; blocks best come in order. -1:
  /// anything may differ.
  Result<double> divergence(int block = -1);

  /// Gives back the model's memory. Only judge() may follow.
  void unload();
  /// The same for a file.
  Result<Judgement> judge(const std::string& path) const;

 private:
  Judge(const Model& model, std::size_t lead, int threads)
      : model_(&model), lead_(lead), threads_(threads) {}
  std::size_t scored(const std::vector<Token>& window) const {
    return window.size() - std::min(lead_, window.size() / 2);
  }
  Result<std::span<const float>> predict(Session& session, std::size_t window) const;
  Status enter(int block);
  using Predict = std::function<Result<std::span<const float>>(std::size_t window)>;
  Result<Judgement> judge(ThreadPool& pool, const Predict& predict) const;

  const Model* model_;
  std::size_t lead_;
  int threads_;
  std::unique_ptr<Runtime> runtime_;
  std::vector<std::vector<Token>> windows_;
  std::vector<std::vector<float>> reference_;  // a window: [scored tokens][vocab]
  std::vector<std::vector<float>> hidden_;     // a window: [tokens][embedding], before block_
  int block_ = 0;
};

}  // namespace nibble
