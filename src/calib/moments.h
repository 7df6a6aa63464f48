// Second moments of what linear layers read, summed while a block runs.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "base/threads.h"
#include "round/second_moment.h"

namespace nibble {

class MomentSums {
 public:
  /// Adds `tokens` rows of `width` values. The same sums for every number of threads.
  void add(const std::string& tap, const float* values, std::int64_t tokens, std::int64_t width,
           ThreadPool& pool);
  /// The mean over all rows added to `tap`, and none of it left here; nullopt if it was never
  /// reached.
  std::optional<SecondMoment> take(const std::string& tap);

 private:
  std::map<std::string, SecondMoment> taps_;  // sums; the upper triangle only
};

}  // namespace nibble
