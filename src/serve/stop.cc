#include "serve/stop.h"

#include <algorithm>
#include <utility>

namespace nibble {

std::string StopMatcher::push(std::string_view piece) {
  if (found_) return "";
  held_ += piece;
  std::size_t first = std::string::npos;
  for (const std::string& stop : stops_)
    if (!stop.empty()) first = std::min(first, held_.find(stop));
  if (first != std::string::npos) {
    found_ = true;
    std::string out = held_.substr(0, first);
    held_.clear();
    return out;
  }
  std::size_t keep = 0;  // the longest end that begins a stop string
  for (const std::string& stop : stops_)
    for (std::size_t n = std::min(held_.size(), stop.size()); n > keep; --n)
      if (held_.compare(held_.size() - n, n, stop, 0, n) == 0) keep = n;
  std::string out = held_.substr(0, held_.size() - keep);
  held_.erase(0, out.size());
  return out;
}

std::string StopMatcher::finish() { return std::exchange(held_, ""); }

}  // namespace nibble
