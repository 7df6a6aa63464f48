// The drawings of a report, as SVG for the style sheet of its page.
#pragma once

#include <string>

#include "nibble/compare.h"

namespace nibble {

/// Size to the right, KL divergence upwards on a logarithmic scale. Empty without figures.
std::string size_plot(const CompareReport& report);

/// A bar a model, the original first; the thin line spans the rounds.
struct Bars {
  const char* title;
  const char* unit;
  bool more_is_better;
  /// Typical, least and most.
  struct Value {
    double typical, least, most;
  };
  Value (*value)(const CompareReport& report, const ComparedModel& model);
};
std::string bar_plot(const CompareReport& report, const Bars& bars);

/// Relative squared error by role (a line each) and layer (a column each), colours on one
/// logarithmic scale for all models. Empty where no matrix could be compared.
std::string error_map(const CompareReport& report, const ComparedModel& model);
/// The colours of that scale.
std::string error_legend(const CompareReport& report);

}  // namespace nibble
