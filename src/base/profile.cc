#include "base/profile.h"

#include <mutex>

namespace nibble::profile {
namespace {

std::mutex& mutex() {
  static std::mutex one;
  return one;
}

Sums& totals() {
  static Sums all;
  return all;
}

}  // namespace

Sums sums() {
  const std::lock_guard lock(mutex());
  return totals();
}

Timed::Timed(Phase phase, double flops) : phase_(phase), flops_(flops) {}

Timed::~Timed() {
  const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start_;
  const std::lock_guard lock(mutex());
  Sum& sum = totals()[std::size_t(phase_)];
  sum.seconds += taken.count();
  sum.flops += flops_;
}

}  // namespace nibble::profile
