// The errors of a model's matrices as a map.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "compare/markup.h"
#include "compare/plots.h"
#include "compare/svg.h"

namespace nibble {
namespace {

constexpr double kRole = 96;     // width of the names of roles
constexpr double kLine = 18;     // height of a line
constexpr double kLayers = 600;  // width of all layers

struct Rgb {
  double red, green, blue;
};

/// From dark violet over green to yellow: equal steps look equal, also to the colour-blind and on
/// paper.
constexpr std::array<Rgb, 5> kColours = {
    {{68, 1, 84}, {59, 82, 139}, {33, 145, 140}, {94, 201, 98}, {253, 231, 37}}};

/// `at`: 0 to 1.
std::string colour(double at) {
  const double place = std::clamp(at, 0.0, 1.0) * double(kColours.size() - 1);
  const std::size_t below = std::min(std::size_t(place), kColours.size() - 2);
  const double rest = place - double(below);
  const Rgb &a = kColours[below], &b = kColours[below + 1];
  const auto mix = [&](double x, double y) { return int(std::lround(x + rest * (y - x))); };
  return fmt::format("#{:02x}{:02x}{:02x}", mix(a.red, b.red), mix(a.green, b.green),
                     mix(a.blue, b.blue));
}

/// Logarithms of the least and the greatest error above 0 of all models.
struct Range {
  double low = 0, high = 0;
  bool empty = true;
  double place(double error) const {
    return high > low ? (std::log10(error) - low) / (high - low) : 0.5;
  }
};

Range range_of(const CompareReport& report) {
  Range range;
  for (const ComparedModel& model : report.models)
    for (const MatrixError& matrix : model.matrices) {
      if (!(matrix.relative > 0)) continue;
      const double e = std::log10(std::min(matrix.relative, 1.0));
      range.low = range.empty ? e : std::min(range.low, e);
      range.high = range.empty ? e : std::max(range.high, e);
      range.empty = false;
    }
  return range;
}

}  // namespace

std::string error_map(const CompareReport& report, const ComparedModel& model) {
  if (model.matrices.empty()) return "";
  const Range range = range_of(report);
  std::vector<std::string> roles;
  int layers = 0;
  for (const MatrixError& matrix : model.matrices) {
    layers = std::max(layers, matrix.layer + 1);
    if (std::find(roles.begin(), roles.end(), matrix.role) == roles.end())
      roles.push_back(matrix.role);
  }
  const double width = kLayers / std::max(layers, 1);
  std::string body;
  for (std::size_t i = 0; i < roles.size(); ++i)
    body +=
        svg::text(kRole - 8, kLine * double(i) + 13, "class='tick' text-anchor='end'", roles[i]);
  for (const MatrixError& matrix : model.matrices) {
    const auto role = std::find(roles.begin(), roles.end(), matrix.role) - roles.begin();
    const bool whole = matrix.layer < 0;  // not in a layer: all of the line
    const std::string fill =
        matrix.relative > 0 ? colour(range.place(matrix.relative)) : std::string("none");
    body += svg::rect(kRole + (whole ? 0 : width * matrix.layer), kLine * double(role),
                      (whole ? kLayers : width) - 1, kLine - 1,
                      fmt::format("class='cell' fill='{}'", fill),
                      fmt::format("{}{}: relative squared error {:.3g} ({})",
                                  whole ? "" : fmt::format("layer {}, ", matrix.layer), matrix.role,
                                  matrix.relative, matrix.format));
  }
  const double bottom = kLine * double(roles.size()) + 13;
  for (const double layer : svg::ticks(0, std::max(layers - 1, 1), 10))
    if (layer == std::floor(layer))
      body += svg::text(kRole + width * (layer + 0.5), bottom, "class='tick' text-anchor='middle'",
                        fmt::format("{:g}", layer));
  body += svg::text(kRole - 8, bottom, "class='axis' text-anchor='end'", "layer");
  return fmt::format(
      "<svg viewBox='0 0 {:.0f} {:.0f}' role='img' aria-label='Error of every matrix of "
      "{}'>\n{}</svg>\n",
      kRole + kLayers, bottom + 5, escape_markup(model.name), body);
}

std::string error_legend(const CompareReport& report) {
  constexpr double width = 360, left = 20, right = width - 20;
  constexpr int steps = 60;
  const Range range = range_of(report);
  if (range.empty) return "";
  std::string body;
  for (int i = 0; i < steps; ++i)
    body += svg::rect(left + (right - left) * i / steps, 2, (right - left) / steps + 0.5, 12,
                      fmt::format("fill='{}'", colour((i + 0.5) / steps)));
  const svg::Axis axis{range.low, std::max(range.high, range.low + 1e-9), left, right};
  for (const double tick : svg::log_ticks(range.low, range.high))
    body += svg::text(axis.at(std::log10(tick)), 28, "class='tick' text-anchor='middle'",
                      fmt::format("{:g}", tick));
  return fmt::format(
      "<svg class='legend' viewBox='0 0 {:.0f} 34' role='img' aria-label='Scale of "
      "colours'>\n{}</svg>\n",
      width, body);
}

}  // namespace nibble
