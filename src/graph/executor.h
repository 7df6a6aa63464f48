// Executes the steps of a graph on tokens of one or more sequences (inner header of graph/).
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "graph/cache.h"
#include "graph/state.h"

namespace nibble {

/// The activations of tokens that run together, one row each, in portions of sequences. Every
/// matrix is read once for all of them.
class Executor {
 public:
  static constexpr std::size_t kRows = 512;  // at once: bounds the activations

  explicit Executor(Runtime::State& model);

  /// Makes room for the rows of portions, which lie one behind the other, and in their caches.
  Status begin(std::span<const Portion> portions);
  /// Runs steps on all rows. `tokens`: of the rows, for steps that embed.
  void run(std::span<const Step> steps, std::span<const std::uint32_t> tokens = {});
  /// Runs what comes after the blocks on the last wanted[i] rows of portion i: logits [sum of
  /// wanted][vocab]. No other rows can be run afterwards.
  void finish(std::span<const std::int64_t> wanted, float* logits);

  float* at(Slot slot, std::int64_t row) {
    if (slot == logits_slot_) return logits_ + row * width(slot);
    return slots_[std::size_t(slot)].data() + row * width(slot);
  }
  std::int64_t width(Slot slot) const { return model_.graph.slot_width[std::size_t(slot)]; }
  std::int64_t rows() const { return rows_; }

  TapFunction tap;

 private:
  void run_step(const Step& step, std::span<const std::uint32_t> tokens);
  void embed(const Step& step, std::span<const std::uint32_t> tokens);
  void linear(const Step& step);
  void norm(const Step& step);
  void rope(const Node& node);
  void attend(const Node& node);
  void elementwise(const Node& node);
  /// fn(begin, end) over rows of `values` floats each, on all threads if that pays.
  template <class Fn>
  void each(std::int64_t values, const Fn& fn);

  Runtime::State& model_;
  const ModelConfig& config_;
  std::vector<std::vector<float>> slots_;  // [rows][width]
  Slot logits_slot_ = -1;
  float* logits_ = nullptr;  // the slot of the logits, which the caller owns
  std::int64_t rows_ = 0;
  std::vector<Portion> portions_;
  std::vector<std::int64_t> counts_;                                  // rows of each sequence
  std::vector<float> cosines_, sines_, local_cosines_, local_sines_;  // [rows][head_dim / 2]
  std::unique_ptr<Input> input_;  // of the linear layers that read one tap
};

}  // namespace nibble
