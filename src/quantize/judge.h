// How far a model's predictions move when matrices of it are exchanged.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "arch/arch.h"
#include "graph/runtime.h"
#include "text/tokenizer.h"

namespace nibble {

class Judge {
 public:
  /// Runs the model as it is over `windows`; the second half of each is what counts. Holds the
  /// whole model, and its logits there. `model` must live as long.
  static Result<Judge> open(const Model& model, std::vector<std::vector<Token>> windows,
                            int threads, Progress& progress);

  /// Puts other bytes in place of a matrix, or its own again.
  Status put(const std::string& weight, const Format& format, std::span<const std::byte> bytes);
  Status restore(const std::string& weight);
  /// Mean KL divergence of the model as it now is from the original, in nats a token.
  Result<double> divergence();

  /// Gives back the model's memory. Only divergence_of() may follow.
  void unload();
  /// The same for a file.
  Result<double> divergence_of(const std::string& path) const;

 private:
  Judge(const Model& model, int threads) : model_(&model), threads_(threads) {}
  Result<double> divergence(Runtime& runtime) const;

  const Model* model_;
  int threads_;
  std::unique_ptr<Runtime> runtime_;
  std::vector<std::vector<Token>> windows_;
  std::vector<std::vector<float>> reference_;  // a window: [scored tokens][vocab]
};

}  // namespace nibble
