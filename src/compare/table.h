// The figures as columns, for every way of showing them.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "nibble/compare.h"

namespace nibble {

struct Column {
  const char *head, *unit;  // unit: empty where the values say it
  std::string (*show)(const CompareReport& report, const ComparedModel& model);
  /// The lower the better; null where no model is better than another.
  double (*cost)(const CompareReport& report, const ComparedModel& model) = nullptr;
};

/// Of everything that was measured; and of what matters in a conversation, the decisive one first.
std::vector<Column> all_columns(const CompareReport& report);
std::vector<Column> chat_columns(const CompareReport& report);

/// What a column says of a model; "–" where it was not measured.
std::string cell(const Column& column, const CompareReport& report, const ComparedModel& model);
/// True for the best, where they are not all alike.
bool is_best(const Column& column, const CompareReport& report, const ComparedModel& model);

/// The models by the time of a reply, and what is to be said of each as a partner in conversation.
std::vector<const ComparedModel*> by_reply_time(const CompareReport& report);
std::string chat_verdict(const CompareReport& report, const ComparedModel& model);

}  // namespace nibble
