// Second moments of what linear layers read, summed while a block runs.
#pragma once

#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/threads.h"
#include "calib/gram.h"
#include "round/second_moment.h"

namespace nibble {

std::span<const Gram* const> gram_registry();

class MomentSums {
 public:
  /// Adds `tokens` rows of `width` values. The same sums for every number of threads.
  void add(const std::string& tap, const float* values, std::int64_t tokens, std::int64_t width,
           ThreadPool& pool);
  /// The mean over all rows added to `tap`, and none of it left here; nullopt if it was never
  /// reached.
  std::optional<SecondMoment> take(const std::string& tap);

 private:
  void add_products(const float* values, std::int64_t tokens, SecondMoment& sum, ThreadPool& pool);
  void add_pairs(const Gram& gram, const float* values, std::int64_t tokens, SecondMoment& sum,
                 ThreadPool& pool);

  std::map<std::string, SecondMoment> taps_;  // sums; the upper triangle only
  std::vector<std::uint32_t> pairs_;          // what add_pairs() works with
};

/// Means of a x^T, of rows a and x that belong together.
class CrossSums {
 public:
  /// Adds `tokens` rows of `width` values each. The same sums for every number of threads.
  void add(const std::string& tap, const float* a, const float* x, std::int64_t tokens,
           std::int64_t width, ThreadPool& pool);
  /// As MomentSums::take().
  std::optional<SecondMoment> take(const std::string& tap);

 private:
  std::map<std::string, SecondMoment> taps_;  // sums
};

}  // namespace nibble
