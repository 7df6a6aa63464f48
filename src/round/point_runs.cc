#include "round/point_runs.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <numeric>
#include <vector>

#include "base/result.h"

namespace nibble {
namespace {

class Sorter {
 public:
  explicit Sorter(const Codebook& book)
      : book_(book), half_(book.width / 2), half_bits_(half_ * book.digit_bits) {}

  PointRuns sort() {
    runs_.halves = 1;
    for (int k = 0; k < half_; ++k) runs_.halves *= book_.digits();
    NIBBLE_CHECK(runs_.halves <= PointRuns::kMostHalves);
    for (int digits = 0; digits < 1 << half_bits_; ++digits)
      if (const int half = number(digits); half >= 0) runs_.digits[half] = std::uint8_t(digits);
    // Short runs first: a processor guesses the end of a loop well if it is where it was last time.
    std::vector<int> order(std::size_t(runs_.halves));
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](int a, int b) { return fours_after(a) < fours_after(b); });
    for (const int half : order) add_run(half);
    runs_.begin[runs_.count] = std::int16_t(end_);
    return runs_;
  }

 private:
  /// The number of half a point; -1: there is none with these digits.
  int number(int digits) const {
    int number = 0;
    for (int k = half_ - 1; k >= 0; --k) {
      const int digit = digits >> (book_.digit_bits * k) & ((1 << book_.digit_bits) - 1);
      if (digit >= book_.digits()) return -1;
      number = number * book_.digits() + digit;
    }
    return number;
  }

  bool begins_with(std::uint16_t point, int first) const {
    return number(point & ((1 << half_bits_) - 1)) == first;
  }

  std::ptrdiff_t fours_after(int first) const {
    return (std::count_if(book_.points.begin(), book_.points.end(),
                          [&](std::uint16_t point) { return begins_with(point, first); }) +
            3) /
           4;
  }

  void add_run(int first) {
    const int begin = end_;
    for (std::size_t e = 0; e < book_.points.size(); ++e)
      if (begins_with(book_.points[e], first)) add(number(book_.points[e] >> half_bits_), int(e));
    if (end_ == begin) return;
    while ((end_ - begin) % 4 != 0) add(runs_.second[end_ - 1], runs_.number[end_ - 1]);
    runs_.run_of[first] = std::uint8_t(runs_.count);
    runs_.first[runs_.count] = std::uint8_t(first);
    runs_.begin[runs_.count++] = std::int16_t(begin);
  }

  void add(int second, int point) {
    NIBBLE_CHECK(end_ < PointRuns::kMostPoints);
    runs_.second[end_] = std::uint8_t(second), runs_.number[end_++] = std::int16_t(point);
  }

  const Codebook& book_;
  int half_, half_bits_;  // columns of half a point, bits of their digits
  int end_ = 0;           // of the points sorted so far
  PointRuns runs_{};
};

}  // namespace

const PointRuns& point_runs(const Codebook& book) {
  static std::mutex mutex;
  static std::map<const Codebook*, PointRuns> all;
  const std::lock_guard lock(mutex);
  const auto [found, added] = all.try_emplace(&book);
  if (added) found->second = Sorter(book).sort();
  return found->second;
}

}  // namespace nibble
