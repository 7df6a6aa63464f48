// Second moments for roundings with error feedback, block by block, and how much of them to trust.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "calib/stream.h"
#include "nibble/quantize.h"
#include "round/rounder.h"
#include "round/sample.h"

namespace nibble {

class FeedbackSource {
 public:
  /// `model` must live as long. `folder`: as for BlockStream. `act_order`: matrices are rounded
  /// with their columns sorted by the mean square of their inputs, largest first. `reference`:
  /// errors are those against the full-precision model's outputs, and may be corrected for.
  static Result<std::unique_ptr<FeedbackSource>> open(const Model& model, const Corpus& corpus,
                                                      int threads, const std::string& folder,
                                                      bool act_order = false,
                                                      bool reference = false);

  /// Bytes of memory that the largest block needs, activations that wait not counted.
  static std::uint64_t memory_needed(const Model& model, bool reference);
  /// Bytes of the activations that wait.
  static std::uint64_t activation_bytes(const Model& model, const Corpus& corpus, bool reference);

  /// The block a weight is in; -1: none whose inputs are known.
  int block_of(const std::string& weight) const;
  /// Moves on to a block, finishing the one before. `finished` says of a block whether all of its
  /// weights will be put() without choose().
  Status enter(int block, const std::function<bool(int)>& finished, const Progress& progress);
  /// Gives `task`, whose weight is of the present block, the statistics with which its rounding is
  /// best for windows held out: with one of these shrinkages, with or without the correction, or
  /// without feedback.
  Result<FeedbackChoice> choose(const std::string& weight, RoundTask& task, const Rounder& rounder,
                                std::span<const double> shrinkages, ThreadPool& pool);
  /// Rounds `task` with the best of all shrinkages.
  Result<RoundReport> round(const std::string& weight, RoundTask task, const Rounder& rounder,
                            FeedbackChoice& choice, ThreadPool& pool);
  /// Of the inputs of a weight of the present block, once choose() has looked at it.
  std::span<const float> mean_square(const std::string& weight) const;
  /// In which choose() has put the columns of a weight of the present block; null: their own.
  ColumnOrder order(const std::string& weight) const;
  /// Input of a weight of the present block on any token of the text; 0: none reaches it.
  float largest(const std::string& weight);
  /// What was written for a weight of the present block, and the order of its columns.
  Status put(const std::string& weight, const Format& format, std::span<const std::byte> bytes,
             const ColumnOrder& order = nullptr);

 private:
  FeedbackSource() = default;
  struct Tap {
    int weights = 0;  // of the block that read it and are not put() yet
    std::vector<float> mean_square;
    ColumnOrder order = nullptr;
    std::optional<TapMoments> sorted = {};                             // in that order
    std::map<std::pair<int, double>, Result<FeedbackFactor>> factors;  // by block and shrinkage
    std::map<std::pair<int, double>, std::vector<float>> corrections = {};  // the same
  };
  /// Adds the correction where it makes the error smaller.
  static Status correct(Tap& tap, const TapMoments& moments, RoundTask& task, MatrixSample& sample,
                        const Rounder& rounder, FeedbackChoice& choice, ThreadPool& pool);
  static const Result<FeedbackFactor>& factor(Tap& tap, const SecondMoment& moment, int block,
                                              double shrinkage, ThreadPool& pool);

  /// nullptr: no token reaches it.
  const TapMoments* moments(const std::string& tap);
  void sort(const std::string& name, Tap& tap, const TapMoments& moments);

  bool act_order_ = false;
  std::optional<BlockStream> stream_;
  std::map<std::string, std::pair<int, std::string>> weights_;  // block and tap of each
  int block_ = -1;
  std::map<std::string, Tap> taps_;  // of the present block
};

}  // namespace nibble
