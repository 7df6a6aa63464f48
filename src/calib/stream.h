// Calibration one transformer block at a time: all windows of a text wait between two blocks as
// activations, so that no more than one block of weights is ever held, and each block sees what the
// already quantized ones before it produce.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "calib/activations.h"
#include "calib/corpus.h"
#include "calib/moments.h"

namespace nibble {

/// Second moments of one tap on the text, and on the windows held out to choose by.
struct TapMoments {
  SecondMoment train, held_out;
  std::optional<Drift> drift = {};  // where there is a reference
};

/// What the first block reads: [tokens][embedding]. Errors: none for tokens of the vocabulary.
std::vector<float> embed(const Model& model, std::span<const Token> tokens);

class BlockStream {
 public:
  /// Embeds the windows. Every kHeldOut-th is held out. `folder`: activations wait in a file there;
  /// empty: in memory. `reference`: beside them go the activations of the full-precision model.
  /// Errors: fewer than kHeldOut windows, no room for the activations.
  static Result<BlockStream> open(const Model& model, const Corpus& corpus, int threads,
                                  const std::string& folder, bool reference = false);

  static constexpr std::size_t kHeldOut = 8;

  /// Runs the windows through block `block` of the model and keeps its moments. Blocks come in
  /// order, each finished before the next. `look`: false where nobody asks for the moments.
  Status enter(int block, bool look, const Progress& progress);
  /// Moments of a tap of this block; null if no token reached it.
  const TapMoments* moments(const std::string& tap);
  /// Gives back their memory.
  void forget(const std::string& tap) { moments_.erase(tap); }
  /// Puts quantized bytes in place of a weight of this block.
  Status replace(const std::string& weight, const Format& format, std::span<const std::byte> bytes,
                 const ColumnOrder& order = nullptr);
  /// Runs the windows through the block as it now is: the inputs of the next one.
  Status leave(const Progress& progress);
  /// Both at once, for a block of which nothing is replaced.
  Status pass(int block, const Progress& progress);

 private:
  BlockStream(const Model& model, int threads) : model_(&model), threads_(threads) {}
  Status load(int block);
  /// use(session) for every window_.
  template <class Use>
  Status each_window(const Progress& progress, const Use& use);
  std::vector<float> read(const Activations& waiting) const;
  /// Replaces the window by what the block makes of it.
  Status advance(Activations& waiting, Session& session);
  bool held_out() const { return window_ % kHeldOut == kHeldOut - 1; }
  TapFunction sum();  // into the moments
  /// Runs the reference through the block, beside the other windows if `look`.
  Status pass_reference(bool look, const Progress& progress);

  const Model* model_;
  int threads_;
  std::vector<std::size_t> begins_;  // of the windows, in tokens; one more at the end
  Activations hidden_;
  std::optional<Activations> reference_;  // of the full-precision model
  std::unique_ptr<Runtime> runtime_;
  std::size_t window_ = 0;  // that runs now
  MomentSums train_, held_out_, square_;
  CrossSums train_drift_, held_out_drift_;
  std::map<std::string, TapMoments> moments_;
};

}  // namespace nibble
