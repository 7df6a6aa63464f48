// Pieces of drawings. `attributes` is markup of our own, never text from outside; words and titles
// are escaped.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace nibble::svg {

/// Maps a range of values to a range of the drawing.
struct Axis {
  double low, high, from, to;
  double at(double x) const { return from + (x - low) / (high - low) * (to - from); }
};

/// Multiples of 1, 2 or 5 times a power of ten inside [low, high], about `count` of them.
std::vector<double> ticks(double low, double high, int count);

/// 1, 2 and 5 times powers of ten whose logarithms lie inside [low, high]; powers of ten only,
/// where these are enough.
std::vector<double> log_ticks(double low, double high);

std::string line(double x1, double y1, double x2, double y2, std::string_view attributes);
std::string text(double x, double y, std::string_view attributes, std::string_view words);
/// `title`: what is shown where the pointer rests; empty: nothing.
std::string circle(double x, double y, double radius, std::string_view attributes,
                   std::string_view title);
std::string rect(double x, double y, double width, double height, std::string_view attributes,
                 std::string_view title = {});

}  // namespace nibble::svg
