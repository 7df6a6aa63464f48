#include "compare/svg.h"

#include <fmt/format.h>

#include <cmath>

#include "compare/markup.h"

namespace nibble::svg {
namespace {

std::string titled(std::string_view element, const std::string& start, std::string_view title) {
  if (title.empty()) return start + "/>\n";
  return fmt::format("{}><title>{}</title></{}>\n", start, escape_markup(title), element);
}

}  // namespace

std::vector<double> ticks(double low, double high, int count) {
  const double rough = (high - low) / count, power = std::pow(10, std::floor(std::log10(rough)));
  const double step = power * (rough / power < 1.5 ? 1
                               : rough / power < 3 ? 2
                               : rough / power < 7 ? 5
                                                   : 10);
  std::vector<double> out;
  for (double i = std::ceil(low / step); i * step <= high; ++i) out.push_back(i * step);
  return out;
}

std::vector<double> log_ticks(double low, double high) {
  std::vector<double> powers, all;
  for (double e = std::floor(low); e <= high; ++e)
    for (const double digit : {1.0, 2.0, 5.0}) {
      const double x = digit * std::pow(10, e);
      if (std::log10(x) < low || std::log10(x) > high) continue;
      all.push_back(x);
      if (digit == 1) powers.push_back(x);
    }
  return powers.size() >= 4 ? powers : all;
}

std::string line(double x1, double y1, double x2, double y2, std::string_view attributes) {
  return fmt::format("<line x1='{:.1f}' y1='{:.1f}' x2='{:.1f}' y2='{:.1f}' {}/>\n", x1, y1, x2, y2,
                     attributes);
}

std::string text(double x, double y, std::string_view attributes, std::string_view words) {
  return fmt::format("<text x='{:.1f}' y='{:.1f}' {}>{}</text>\n", x, y, attributes,
                     escape_markup(words));
}

std::string circle(double x, double y, double radius, std::string_view attributes,
                   std::string_view title) {
  return titled(
      "circle",
      fmt::format("<circle cx='{:.1f}' cy='{:.1f}' r='{:g}' {}", x, y, radius, attributes), title);
}

std::string rect(double x, double y, double width, double height, std::string_view attributes,
                 std::string_view title) {
  return titled("rect",
                fmt::format("<rect x='{:.1f}' y='{:.1f}' width='{:.1f}' height='{:.1f}' {}", x, y,
                            width, height, attributes),
                title);
}

}  // namespace nibble::svg
