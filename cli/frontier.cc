#include "cli/frontier.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "cli/console.h"
#include "compare/svg.h"

namespace nibble::cli {
namespace {

constexpr double kWidth = 720, kHeight = 440, kLeft = 80, kRight = 20, kTop = 40, kBottom = 60;
constexpr std::size_t kLines = 12;  // of the table

using Point = BudgetReport::Point;

double bits(const QuantizeReport& report, std::uint64_t bytes) {
  return 8 * double(bytes) / double(report.parameters);
}

constexpr const char* kGrid = "stroke='#8888' stroke-width='1'";
constexpr const char* kMiddle = "text-anchor='middle'";
constexpr const char* kEnd = "text-anchor='end'";

std::string dot(double x, double y, const char* fill, const std::string& words) {
  return svg::circle(x, y, 5, fmt::format("fill='{}' stroke='#c33' stroke-width='2'", fill), words);
}

std::string grid(const svg::Axis& x, const svg::Axis& y) {
  std::string out;
  const double step = x.high - x.low > 6 ? 1 : 0.5;
  for (double b = std::ceil(x.low / step) * step; b <= x.high; b += step) {
    out += svg::line(x.at(b), kTop, x.at(b), kHeight - kBottom, kGrid);
    out += svg::text(x.at(b), kHeight - kBottom + 18, kMiddle, fmt::format("{:g}", b));
  }
  for (double e = std::ceil(y.low); e <= y.high; ++e) {
    out += svg::line(kLeft, y.at(e), kWidth - kRight, y.at(e), kGrid);
    out += svg::text(kLeft - 8, y.at(e) + 4, kEnd, fmt::format("{:g}", std::pow(10, e)));
  }
  return out;
}

}  // namespace

void print_frontier(const QuantizeReport& report) {
  const BudgetReport& budget = *report.budget;
  const auto& points = budget.frontier;
  fmt::print("{:>14}  {:>15}  {:>12}  {:>10}\n", "size", "bits per weight", "predicted KL",
             "measured");
  const auto print = [&](std::uint64_t bytes, double predicted, const std::string& more) {
    fmt::print("{:>14}  {:>15.3f}  {:>12.5f}  {}\n", human_bytes(bytes), bits(report, bytes),
               predicted, more);
  };
  const std::string measured =
      budget.measured ? fmt::format("{:>10.5f}", *budget.measured) : std::string(10, ' ');
  bool chosen = false;
  std::uint64_t next = 0;
  const std::uint64_t span = points.back().bytes - points.front().bytes;
  for (const Point& point : points) {
    if (!chosen && point.bytes >= report.bytes) {
      print(report.bytes, budget.predicted, measured + "  <- this file");
      chosen = true;
    }
    if (point.bytes < next || point.bytes == report.bytes) continue;
    print(point.bytes, point.predicted, "");
    next = point.bytes + span / kLines;
  }
  if (!chosen) print(report.bytes, budget.predicted, measured + "  <- this file");
}

std::string frontier_svg(const QuantizeReport& report) {
  const BudgetReport& budget = *report.budget;
  std::vector<std::pair<double, double>> curve;  // bits, log10 of the divergence
  for (const Point& point : budget.frontier)
    if (point.predicted > 0)
      curve.emplace_back(bits(report, point.bytes), std::log10(point.predicted));
  const double chosen = bits(report, report.bytes);
  std::vector<std::pair<double, double>> all = curve;
  for (const double kld : {budget.predicted, budget.measured.value_or(0)})
    if (kld > 0) all.emplace_back(chosen, std::log10(kld));
  if (all.empty()) all.emplace_back(chosen, 0);
  const auto [left, right] = std::minmax_element(all.begin(), all.end());
  const auto below = [](const auto& a, const auto& b) { return a.second < b.second; };
  const auto [bottom, top] = std::minmax_element(all.begin(), all.end(), below);
  const svg::Axis x{left->first - 0.2, right->first + 0.2, kLeft, kWidth - kRight};
  const svg::Axis y{bottom->second - 0.1, top->second + 0.1, kHeight - kBottom, kTop};

  std::string out = fmt::format(
      "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {0} {1}' width='{0}' height='{1}' "
      "font-family='sans-serif' font-size='12'>\n<rect width='{0}' height='{1}' fill='#fff'/>\n",
      kWidth, kHeight);
  out += grid(x, y);
  out +=
      svg::text(kWidth / 2, 22, kMiddle, "KL divergence of the predictions by size (nats a token)");
  out += svg::text(kWidth / 2, kHeight - 16, kMiddle,
                   fmt::format("bits per weight of the file ({} parameters)", report.parameters));
  std::string path;
  for (const auto& [b, kld] : curve) path += fmt::format("{:.1f},{:.1f} ", x.at(b), y.at(kld));
  out += "<polyline fill='none' stroke='#36c' stroke-width='2' points='" + path + "'/>\n";
  if (budget.predicted > 0)
    out += dot(x.at(chosen), y.at(std::log10(budget.predicted)), "#fff",
               fmt::format("this file, predicted: {:.5f}", budget.predicted));
  if (budget.measured && *budget.measured > 0)
    out += dot(x.at(chosen), y.at(std::log10(*budget.measured)), "#c33",
               fmt::format("this file, measured: {:.5f}", *budget.measured));
  out +=
      svg::text(kWidth - kRight - 8, kTop + 16, kEnd,
                "line: best predicted for each size; circle: this file, predicted; dot: measured");
  return out + "</svg>\n";
}

}  // namespace nibble::cli
