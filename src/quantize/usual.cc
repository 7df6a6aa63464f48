#include "quantize/usual.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "arch/arch.h"
#include "base/threads.h"
#include "container/imatrix.h"
#include "plan/plan.h"
#include "quantize/speed.h"
#include "quantize/windows.h"
#include "text/tokenizer.h"

namespace nibble {
namespace {

/// Bytes a second that one thread reads: what bounds the writing of text, token by token.
double bytes_a_second() {
  std::vector<std::uint64_t> data((64u << 20) / 8, 1);
  std::uint64_t sum = 0;
  const auto start = std::chrono::steady_clock::now();
  for (const std::uint64_t value : data) sum += value;
  const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
  return sum ? double(data.size() * 8) / taken.count() : 1;
}

struct Cost {
  double run = 0;      // multiplications and additions a token, one pass
  double moments = 0;  // the same for second moments
  double bytes = 0;    // of weights
};

Cost cost_of(const Model& model) {
  Cost cost;
  for (const auto& block : model.graph().blocks) {
    std::string tap;
    for (const Node& node : block) {
      if (node.kind != Node::Kind::linear) continue;
      const TensorInfo& weight = model.tensors()[*model.find(node.weight)];
      cost.run += 2.0 * double(weight.elements());
      if (node.tap != tap) cost.moments += double(weight.columns()) * double(weight.columns());
      tap = node.tap;
    }
  }
  for (const TensorInfo& tensor : model.tensors()) cost.bytes += double(tensor.bytes);
  return cost;
}

/// What goes before error feedback; empty: nothing. A scheme names what is usual for it. No scales
/// may move across the folds where a matrix is quantized already: its values would leave the grid
/// they lie on.
std::string usual_transform(const Model& model, const QuantizeOptions& options) {
  const auto plain = [](const TensorInfo& tensor) { return tensor.format->block() == 1; };
  if (!std::ranges::all_of(model.tensors(), plain)) return "";
  if (const auto target = parse_target(options.target); target && target->packer)
    return std::string(target->packer->usual_transform());
  return "awq";
}

std::string minutes(double seconds) {
  return seconds < 90 ? fmt::format("{:.0f} s", seconds) : fmt::format("{:.0f} min", seconds / 60);
}

}  // namespace

UsualRecipe usual_recipe(const QuantizeOptions& options) {
  const bool given = !options.calibration.empty();
  if (given && is_imatrix(options.calibration))
    return {"importance", "rounding by the importance matrix that was given"};
  const auto model = Model::open(options.source);
  if (!model || !Tokenizer::open(model->source()))
    return {given ? "importance" : "nearest",
            "nearest rounding: this model cannot be run here, so nothing is known of its inputs"};
  const Cost cost = cost_of(*model);
  ThreadPool pool(options.threads);
  const double flops = 0.7 * product_flops(pool, 512, 512, 512), memory = bytes_a_second();
  const auto tokens = [&](std::uint64_t windows) {
    return 512.0 * double(options.calibration_chunks > 0 ? options.calibration_chunks : windows);
  };
  const auto writing = [&](double count) { return given ? 0 : count * cost.bytes / memory; };
  const double all = tokens(given ? kFeedbackWindows : kOwnWindows);
  const auto passes = [&](double count) { return count * (2 * cost.run + cost.moments) / flops; };
  const double feedback = writing(all) + passes(all);
  const double scaled = feedback + passes(std::min(all, 512.0 * kChoiceWindows));
  const auto choice = [&](const std::string& recipe, const char* words, double seconds) {
    return UsualRecipe{recipe, fmt::format("{} ({}), about {} on {} threads; --fast takes less "
                                           "and loses more",
                                           words, recipe, minutes(seconds), pool.size())};
  };
  const std::string transform = usual_transform(*model, options);
  if (!options.fast && scaled <= kReasonableSeconds && !transform.empty())
    return choice(transform + "+gptq", "scaling and error feedback", scaled);
  if (!options.fast && feedback <= kReasonableSeconds)
    return choice("gptq", "error feedback", feedback);
  const double some = tokens(kSelfWrittenWindows);
  const double importance = writing(some) + some * cost.run / flops;
  const std::string instead =
      options.fast
          ? ""
          : fmt::format("; error feedback (--recipe gptq) would take about {}", minutes(feedback));
  if (importance <= kReasonableSeconds)
    return {"importance",
            fmt::format("importance rounding, about {}{}", minutes(importance), instead)};
  return {"nearest", fmt::format("nearest rounding: running this model on a text of its own would "
                                 "take about {}{}; --calib takes an importance matrix",
                                 minutes(importance), instead)};
}

}  // namespace nibble
