// Second moments for roundings with error feedback, block by block, and how much of them to trust.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "calib/stream.h"
#include "nibble/quantize.h"
#include "quantize/importance.h"
#include "round/rounder.h"

namespace nibble {

class FeedbackSource {
 public:
  /// options.calibration: a text. The model's path is options.source.
  static Result<std::unique_ptr<FeedbackSource>> open(const QuantizeOptions& options,
                                                      Progress& progress);

  const std::string& name() const { return name_; }      // of the text
  const std::string& sha256() const { return sha256_; }  // of the text
  std::uint64_t tokens() const { return stream_->tokens(); }

  /// The block a weight is in; -1: none whose inputs are known.
  int block_of(const std::string& weight) const;
  /// Moves on to a block, finishing the one before.
  Status enter(int block, const Progress& progress);
  /// Rounds `task`, whose weight is of the present block, with the shrinkage that is best for
  /// windows held out, or without feedback if that is better.
  Result<RoundReport> round(const std::string& weight, RoundTask task, const Rounder& rounder,
                            FeedbackChoice& choice, ThreadPool& pool);
  /// What was written for a weight of the present block.
  Status put(const std::string& weight, const Format& format, std::span<const std::byte> bytes);

 private:
  FeedbackSource() = default;
  struct Tap {
    std::vector<float> mean_square;
    std::map<std::pair<int, double>, std::optional<FeedbackFactor>>
        factors;  // by block and shrinkage
  };
  const FeedbackFactor* factor(Tap& tap, const SecondMoment& moment, int block, double shrinkage);

  std::unique_ptr<Model> model_;
  std::optional<BlockStream> stream_;
  std::string name_, sha256_;
  std::map<std::string, std::pair<int, std::string>> weights_;  // block and tap of each
  int block_ = -1;
  std::map<std::string, Tap> taps_;  // of the present block
};

}  // namespace nibble
