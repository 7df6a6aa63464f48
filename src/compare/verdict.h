// Who beats whom, as far as the measurement can tell.
#pragma once

#include <cstddef>
#include <optional>
#include <vector>

#include "nibble/compare.h"

namespace nibble {

/// Seconds for a reply of BenchmarkOptions::generated_tokens to a prompt of prompt_tokens by a
/// loaded model: by the medians, and by the fastest and slowest rounds.
struct ReplyTime {
  double typical = 0, least = 0, most = 0;
};
ReplyTime reply_time(const CompareReport& report, const ComparedModel& model);

/// Seconds until the first token of that reply.
double first_token(const CompareReport& report, const ComparedModel& model);

/// The models of which everything was measured.
std::vector<const ComparedModel*> measured_models(const CompareReport& report);

/// -1: a is clearly better, 1: b is, 0: no difference beyond the errors of measurement (two
/// standard errors; rounds that overlap).
int by_quality(const ComparedModel& a, const ComparedModel& b);
int by_speed(const CompareReport& report, const ComparedModel& a, const ComparedModel& b);

/// The best model that is clearly better than `model` in something and clearly worse in nothing of
/// quality, speed and, with `size`, bytes, and whose typical reply takes no longer either; nullptr
/// if there is none. Without a text none is beaten.
const ComparedModel* beaten_by(const CompareReport& report, const ComparedModel& model, bool size);

/// Those than which none is both smaller and of less divergence, by size.
std::vector<const ComparedModel*> size_frontier(const CompareReport& report);

/// Index of the point of a frontier that lies farthest below the line between its ends, sizes
/// against the logarithm of the divergence: there the curve turns. None of fewer than three points,
/// or if none lies below.
std::optional<std::size_t> bend(const std::vector<const ComparedModel*>& frontier);

}  // namespace nibble
