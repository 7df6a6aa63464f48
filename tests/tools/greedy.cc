// Continues token ids greedily, without the text part: to compare instruction sets and processors.
//
//   greedy MODEL [-n TOKENS] [-t THREADS] [--exact] ID...
//
// Prints the instruction set, then for each new token its id and the margin between the two best
// logits. Two programs may part only where the margin is below the rounding of their kernels.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "base/cpu.h"
#include "graph/runtime.h"

namespace {

using namespace nibble;

int failed(const Error& error) {
  std::fprintf(stderr, "greedy: %s\n", error.message().c_str());
  return 2;
}

int run(const char* path, int count, const RuntimeOptions& options,
        std::vector<std::uint32_t> tokens) {
  const auto model = Model::open(path);
  if (!model) return failed(model.error());
  const auto runtime = Runtime::load(*model, options);
  if (!runtime) return failed(runtime.error());
  std::printf("isa %s\n", std::string(active_isa()).c_str());
  Session session(**runtime, std::uint32_t(tokens.size()) + std::uint32_t(count));
  for (int i = 0; i < count; ++i) {
    const auto logits = session.forward(tokens);
    if (!logits) return failed(logits.error());
    const auto best = std::max_element(logits->begin(), logits->end());
    float second = -INFINITY;
    for (auto it = logits->begin(); it != logits->end(); ++it)
      if (it != best) second = std::max(second, *it);
    tokens = {std::uint32_t(best - logits->begin())};
    std::printf("%u %.6f\n", tokens[0], double(*best - second));
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  int count = 32;
  RuntimeOptions options;
  std::vector<std::uint32_t> tokens;
  for (int i = 2; i < argc; ++i) {
    if (!std::strcmp(argv[i], "-n") && i + 1 < argc) {
      count = std::atoi(argv[++i]);
    } else if (!std::strcmp(argv[i], "-t") && i + 1 < argc) {
      options.threads = std::atoi(argv[++i]);
    } else if (!std::strcmp(argv[i], "--exact")) {
      options.precision = Precision::exact;
    } else {
      tokens.push_back(std::uint32_t(std::strtoul(argv[i], nullptr, 10)));
    }
  }
  if (tokens.empty() || count < 1) {
    std::fprintf(stderr, "usage: greedy MODEL [-n TOKENS] [-t THREADS] [--exact] ID...\n");
    return 2;
  }
  return run(argv[1], count, options, std::move(tokens));
}
