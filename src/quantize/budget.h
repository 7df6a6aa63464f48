// The formats with which a model fits a budget.
#pragma once

#include "base/json.h"
#include "nibble/quantize.h"
#include "plan/plan.h"
#include "quantize/sensitivity.h"

namespace nibble {

/// Errors: more than one limit, a limit that makes no sense, a format that does not exist.
Status check_budget(const QuantizeOptions& options);

/// A name for the budget, as it stands in the recipe: "3.7bpw", "5000000000bytes", "0.02kld".
std::string budget_name(const Budget& budget);

/// Measures what every matrix of `plan` that is free to choose would lose, and chooses a format for
/// each. `fixed_bytes`: of the file without those matrices. Appends one override a matrix.
Result<BudgetReport> fit_budget(const QuantizeOptions& options, const Plan& plan,
                                std::uint64_t fixed_bytes, Sensitivity& sensitivity,
                                std::vector<Override>& overrides, Progress& progress);

/// The decision and back, for the journal. `chosen`: the overrides that fit_budget() appended.
Json budget_to_json(const BudgetReport& report, const Plan& plan, std::span<const Override> chosen);
Result<BudgetReport> budget_from_json(const Json& json, const Budget& budget,
                                      std::vector<Override>& overrides);

}  // namespace nibble
