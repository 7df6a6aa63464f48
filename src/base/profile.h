// Where the time of a long run goes. Sums over the whole process, kept at all times: a phase is
// entered a few thousand times, never from two threads at once.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <string_view>

namespace nibble::profile {

enum class Phase { products, moments, factors, rounding };
inline constexpr std::array<std::string_view, 4> kNames = {"matrix products", "second moments",
                                                           "factorization", "rounding"};

struct Sum {
  double seconds = 0, flops = 0;  // flops: multiplications and additions, where they are counted
};

using Sums = std::array<Sum, kNames.size()>;
/// Since the program began.
Sums sums();

/// Counts the time until its end.
class Timed {
 public:
  explicit Timed(Phase phase, double flops = 0);
  ~Timed();
  Timed(const Timed&) = delete;
  Timed& operator=(const Timed&) = delete;

 private:
  Phase phase_;
  double flops_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace nibble::profile
