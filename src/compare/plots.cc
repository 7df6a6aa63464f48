#include "compare/plots.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/human.h"
#include "compare/markup.h"
#include "compare/svg.h"
#include "compare/verdict.h"

namespace nibble {
namespace {

using svg::Axis;

constexpr double kWidth = 760, kHeight = 420, kLeft = 74, kRight = 24, kTop = 18, kBottom = 56;
constexpr double kLetter = 7;  // width of one, about

std::string document(double width, double height, std::string_view label, const std::string& body) {
  return fmt::format("<svg viewBox='0 0 {:.0f} {:.0f}' role='img' aria-label='{}'>\n{}</svg>\n",
                     width, height, escape_markup(label), body);
}

/// Bytes in the unit of the largest.
struct Scale {
  double unit = 1;
  const char* name = "bytes";
  explicit Scale(double largest) {
    static constexpr const char* names[] = {"bytes", "kB", "MB", "GB", "TB"};
    int power = 0;
    while (largest >= 1000 && power < 4) largest /= 1000, unit *= 1000, ++power;
    name = names[power];
  }
};

struct Box {
  double left, top, right, bottom;
  bool meets(const Box& other) const {
    return left < other.right && other.left < right && top < other.bottom && other.top < bottom;
  }
};

struct Dot {
  const ComparedModel* model;
  double x, y, low, high;  // low, high: two standard errors down and up
  bool best;               // on the frontier
};

/// Puts the names where they cover neither dots nor each other, as long as there is such a place.
std::string labels(const std::vector<Dot>& dots) {
  std::vector<Box> taken;
  for (const Dot& dot : dots) taken.push_back({dot.x - 7, dot.y - 7, dot.x + 7, dot.y + 7});
  std::string out;
  for (const Dot& dot : dots) {
    const std::string name = shortened(dot.model->name, 28);
    const double width = kLetter * double(std::min<std::size_t>(name.size(), 28));
    struct Try {
      double left, middle;
    };
    const Try tries[] = {{dot.x + 11, dot.y},
                         {dot.x - 11 - width, dot.y},
                         {dot.x - width / 2, dot.y - 17},
                         {dot.x - width / 2, dot.y + 17},
                         {dot.x + 9, dot.y - 14},
                         {dot.x + 9, dot.y + 14},
                         {dot.x - 9 - width, dot.y + 14},
                         {dot.x - 9 - width, dot.y - 14}};
    const auto box = [&](const Try& at) {
      return Box{at.left, at.middle - 7, at.left + width, at.middle + 7};
    };
    const auto good = [&](const Try& at) {
      const Box here = box(at);
      return here.left >= kLeft && here.right <= kWidth && here.top >= 0 &&
             here.bottom <= kHeight - kBottom &&
             std::none_of(taken.begin(), taken.end(), [&](const Box& b) { return b.meets(here); });
    };
    const auto found = std::find_if(std::begin(tries), std::end(tries), good);
    const Try& at = found == std::end(tries) ? tries[0] : *found;
    taken.push_back(box(at));
    out += svg::text(at.left, at.middle + 4, dot.best ? "class='name'" : "class='name less'", name);
  }
  return out;
}

std::string axes(const Axis& x, const Axis& y, const Scale& scale) {
  std::string out;
  for (const double tick : svg::ticks(x.low, x.high, 7)) {
    out += svg::line(x.at(tick), kTop, x.at(tick), kHeight - kBottom, "class='grid'");
    out += svg::text(x.at(tick), kHeight - kBottom + 18, "class='tick' text-anchor='middle'",
                     fmt::format("{:g}", tick));
  }
  for (const double tick : svg::log_ticks(y.low, y.high)) {
    const double at = y.at(std::log10(tick));
    out += svg::line(kLeft, at, kWidth - kRight, at, "class='grid'");
    out +=
        svg::text(kLeft - 8, at + 4, "class='tick' text-anchor='end'", fmt::format("{:g}", tick));
  }
  out += svg::text((kLeft + kWidth - kRight) / 2, kHeight - 12, "class='axis' text-anchor='middle'",
                   fmt::format("size of the files ({})", scale.name));
  const double middle = (kTop + kHeight - kBottom) / 2;
  out += svg::text(
      16, middle,
      fmt::format("class='axis' text-anchor='middle' transform='rotate(-90 16 {:.1f})'", middle),
      "KL divergence (nats a token, logarithmic)");
  return out;
}

std::string title_of(const ComparedModel& model) {
  const Divergence& d = *model.divergence;
  return fmt::format(
      "{}\n{}, {:.2f} bits per weight\nKL divergence {:.5f} \u00b1 {:.5f}\nsame top token {:.1f}%\n"
      "perplexity {:.3f}",
      model.name, human_bytes(model.bytes), model.bits_per_weight, d.kld.value,
      d.kld.standard_error, 100 * d.same_top.value, model.perplexity->value);
}

}  // namespace

std::string size_plot(const CompareReport& report) {
  std::vector<const ComparedModel*> models = measured_models(report);
  std::erase_if(models, [](const ComparedModel* model) { return !model->divergence; });
  if (models.empty()) return "";
  double least = 1, most = 0, small = 1e300, large = 0;
  for (const ComparedModel* model : models) {
    const Measured& kld = model->divergence->kld;
    if (kld.value > 0) least = std::min(least, kld.value);
    most = std::max(most, kld.value);
    small = std::min(small, double(model->bytes)), large = std::max(large, double(model->bytes));
  }
  if (most == 0) least = most = 1e-6;
  // A divergence of 0 has no logarithm: it stands at the bottom.
  const double floor = std::log10(least) - 0.4,
               margin = std::max(0.08 * (large - small), 0.02 * large);
  const Scale scale(large);
  const Axis x{(small - margin) / scale.unit, (large + 1.6 * margin) / scale.unit, kLeft,
               kWidth - kRight};
  const Axis y{floor, std::log10(most) + 0.25, kHeight - kBottom, kTop};
  const auto frontier = size_frontier(report);
  std::vector<Dot> dots;
  std::string path, marks;
  for (const ComparedModel* model : models) {
    const Measured& kld = model->divergence->kld;
    const auto height = [&](double value) {
      return y.at(std::clamp(value > 0 ? std::log10(value) : y.low, y.low, y.high));
    };
    const double noise = 2 * kld.standard_error;
    dots.push_back({model, x.at(double(model->bytes) / scale.unit), height(kld.value),
                    height(kld.value - noise), height(kld.value + noise),
                    std::find(frontier.begin(), frontier.end(), model) != frontier.end()});
  }
  for (const ComparedModel* model : frontier)
    for (const Dot& dot : dots)
      if (dot.model == model) path += fmt::format("{:.1f},{:.1f} ", dot.x, dot.y);
  for (const Dot& dot : dots) {
    marks += svg::line(dot.x, dot.low, dot.x, dot.high, "class='range'");
    marks += svg::circle(dot.x, dot.y, 6, dot.best ? "class='dot'" : "class='dot beaten'",
                         title_of(*dot.model));
  }
  return document(kWidth, kHeight, "Size of each model against its KL divergence from the original",
                  axes(x, y, scale) + "<polyline class='frontier' points='" + path + "'/>\n" +
                      marks + labels(dots));
}

std::string bar_plot(const CompareReport& report, const Bars& bars) {
  constexpr double width = 370, row = 26, value = 54, top = 4;
  constexpr std::size_t longest = 18;
  std::vector<const ComparedModel*> models = measured_models(report);
  models.insert(models.begin(), &report.original);
  double most = 0;
  std::size_t letters = 8;
  for (const ComparedModel* model : models) {
    most = std::max(most, bars.value(report, *model).most);
    if (model != &report.original)
      letters = std::max(letters, std::min(model->name.size(), longest));
  }
  const double name = kLetter * double(letters) + 10;
  const Axis axis{0, most, name, width - value};
  std::string body;
  for (std::size_t i = 0; i < models.size(); ++i) {
    const Bars::Value v = bars.value(report, *models[i]);
    const double y = top + row * double(i), middle = y + row / 2;
    const bool original = models[i] == &report.original;
    const std::string text = fmt::format("{:.{}f}", v.typical,
                                         v.typical < 10    ? 2
                                         : v.typical < 100 ? 1
                                                           : 0);
    body += svg::text(name - 8, middle + 4, "class='tick' text-anchor='end'",
                      shortened(original ? "original" : models[i]->name, longest));
    body += svg::rect(name, y + 5, axis.at(v.typical) - name, row - 10,
                      original ? "class='bar original' rx='2'" : "class='bar' rx='2'",
                      fmt::format("{}: {} {} (rounds: {:.4g} to {:.4g})", models[i]->name, text,
                                  bars.unit, v.least, v.most));
    body += svg::line(axis.at(v.least), middle, axis.at(v.most), middle, "class='range'");
    body += svg::text(axis.at(std::max(v.typical, v.most)) + 8, middle + 4, "class='name'", text);
  }
  return document(width, top + row * double(models.size()) + 6, bars.title, body);
}

}  // namespace nibble
