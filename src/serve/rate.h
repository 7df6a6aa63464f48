// Tokens a second, now.
#pragma once

#include <algorithm>
#include <chrono>
#include <deque>

namespace nibble {

/// The mean over the last kWindow, or since the first tokens in it. Not to be used by two threads
/// at once.
class TokenRate {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::seconds kWindow{5};

  void add(std::size_t tokens, Clock::time_point now = Clock::now()) {
    if (tokens == 0) return;
    while (!recent_.empty() && now - recent_.front().begin > kWindow) recent_.pop_front();
    if (recent_.empty() || now - recent_.back().begin > kStretch) recent_.push_back({now, 0});
    recent_.back().tokens += tokens;
  }
  double per_second(Clock::time_point now = Clock::now()) const {
    std::size_t sum = 0;
    std::chrono::duration<double> span = kStretch;
    for (const Stretch& each : recent_) {
      if (now - each.begin > kWindow) continue;
      sum += each.tokens;
      span = std::max<std::chrono::duration<double>>(span, now - each.begin);
    }
    return double(sum) / span.count();
  }

 private:
  static constexpr std::chrono::milliseconds kStretch{250};
  struct Stretch {
    Clock::time_point begin;
    std::size_t tokens;
  };
  std::deque<Stretch> recent_;  // begin at least kStretch after one another
};

}  // namespace nibble
