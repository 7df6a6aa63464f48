#include "quantize/budget.h"

#include <algorithm>
#include <cmath>

namespace nibble {
namespace {

constexpr double kUsualBits = 4.5;  // where the budget does not say how small the model is to be

Result<std::vector<const Format*>> allowed_formats(const QuantizeOptions& options) {
  std::vector<const Format*> out;
  for (const std::string& id : options.formats) {
    const Format* format = find_format(id);
    if (!format) return fail(ErrorCode::invalid, "--formats: no format named '{}'", id);
    out.push_back(format);
  }
  if (out.empty())
    for (const Format* format : format_registry())
      if (format->block() > 1 && format->spec().ggml_type >= 0) out.push_back(format);
  // Formats of equal blocks share what error feedback needs to know.
  std::stable_sort(out.begin(), out.end(),
                   [](const Format* a, const Format* b) { return a->block() < b->block(); });
  return out;
}

bool free_to_choose(const PlannedTensor& planned) {
  return planned.quantizable && planned.reason.empty() && planned.tensor.shape.size() == 2;
}

Result<std::vector<Sensitivity::Matrix>> free_matrices(const QuantizeOptions& options,
                                                       const Plan& plan) {
  NIBBLE_TRY(const auto formats, allowed_formats(options));
  std::vector<Sensitivity::Matrix> out;
  for (std::size_t i = 0; i < plan.tensors.size(); ++i) {
    const PlannedTensor& planned = plan.tensors[i];
    if (!free_to_choose(planned)) continue;
    Sensitivity::Matrix matrix{.index = i, .formats = {}};
    for (const Format* format : formats)
      if (planned.tensor.columns() % std::uint64_t(format->block()) == 0)
        matrix.formats.push_back(format);
    if (matrix.formats.empty())
      return fail(ErrorCode::invalid,
                  "--formats: {} has rows of {} columns, which none of them can hold; add one with "
                  "smaller blocks, such as q8_0",
                  planned.tensor.name, planned.tensor.columns());
    out.push_back(std::move(matrix));
  }
  if (out.empty()) return fail(ErrorCode::invalid, "no matrix is left for the budget to decide");
  return out;
}

/// Bytes that the free matrices may take; 0: the budget is one of quality.
Result<std::uint64_t> allowed_bytes(const Budget& budget, const Plan& plan,
                                    std::uint64_t fixed_bytes) {
  if (budget.kld > 0) return std::uint64_t(0);
  std::uint64_t limit = budget.bytes, fixed = fixed_bytes;
  if (budget.bits_per_weight > 0) {
    limit = std::uint64_t(budget.bits_per_weight / 8 * double(plan.weights));
    fixed = plan.tensor_bytes;
    for (const PlannedTensor& planned : plan.tensors)
      if (free_to_choose(planned)) fixed -= planned.tensor.bytes;
  }
  if (limit > fixed) return limit - fixed;
  return fail(ErrorCode::invalid,
              "{} bytes are not enough: what is not quantized alone takes {}; allow more", limit,
              fixed);
}

/// The pattern that finds this name and no other.
Result<Override> exactly(const std::string& name, const Format& format, const Budget& budget) {
  std::string pattern = "^";
  for (const char c : name) {
    if (c == '.') pattern += '\\';
    pattern += c;
  }
  NIBBLE_TRY(Pattern compiled, Pattern::compile(pattern + "$"));
  return Override{"budget " + budget_name(budget), std::move(compiled), &format};
}

}  // namespace

Status check_budget(const QuantizeOptions& options) {
  const Budget& b = options.budget;
  const int limits = (b.bytes > 0) + (b.bits_per_weight != 0) + (b.kld != 0);
  if (limits > 1)
    return fail(ErrorCode::invalid, "more than one of --size, --bpw and --kld; choose one");
  if (limits == 0 && !options.formats.empty())
    return fail(ErrorCode::invalid, "--formats limits what --size, --bpw or --kld may choose from");
  if (limits == 1 && !options.target.empty())
    return fail(ErrorCode::invalid,
                "--to {} and a budget: the budget decides every format; leave one away",
                options.target);
  if (!(b.bits_per_weight >= 0 && b.bits_per_weight <= 32))
    return fail(ErrorCode::invalid, "--bpw {}: bits per weight lie between 1 and 16",
                b.bits_per_weight);
  if (!(b.kld >= 0 && std::isfinite(b.kld)))
    return fail(ErrorCode::invalid, "--kld {}: a KL divergence is a positive number, such as 0.02",
                b.kld);
  return allowed_formats(options).map([](const auto&) {});
}

std::string budget_name(const Budget& budget) {
  if (budget.bytes > 0) return fmt::format("{}bytes", budget.bytes);
  if (budget.bits_per_weight > 0) return fmt::format("{}bpw", budget.bits_per_weight);
  return fmt::format("{}kld", budget.kld);
}

Result<BudgetReport> fit_budget(const QuantizeOptions& options, const Plan& plan,
                                std::uint64_t fixed_bytes, Sensitivity& sensitivity,
                                std::vector<Override>& overrides, Progress& progress) {
  NIBBLE_TRY(const auto matrices, free_matrices(options, plan));
  NIBBLE_TRY(const std::uint64_t allowed, allowed_bytes(options.budget, plan, fixed_bytes));
  std::uint64_t weights = 0;
  for (const auto& matrix : matrices) weights += plan.tensors[matrix.index].tensor.elements();
  const double bits = allowed > 0 ? 8 * double(allowed) / double(weights) : kUsualBits;
  NIBBLE_TRY(auto candidates, sensitivity.measure(matrices, bits, progress));
  const Frontier frontier(std::move(candidates));
  const auto solve = [&](double excess) {
    return allowed > 0 ? frontier.within(allowed) : frontier.losing(options.budget.kld / excess);
  };
  NIBBLE_TRY(Assignment assignment, solve(1));
  NIBBLE_TRY(const double excess, sensitivity.excess(assignment, progress));
  NIBBLE_TRY(assignment, solve(excess));
  for (std::size_t i = 0; i < matrices.size(); ++i) {
    NIBBLE_TRY(Override chosen, exactly(plan.tensors[matrices[i].index].tensor.name,
                                        *assignment.choices[i].format, options.budget));
    overrides.push_back(std::move(chosen));
  }
  BudgetReport report{.predicted = excess * assignment.loss};
  for (const Frontier::Point& point : frontier.points())
    report.frontier.push_back({fixed_bytes + point.bytes, excess * point.loss});
  return report;
}

Json budget_to_json(const BudgetReport& report, const Plan& plan,
                    std::span<const Override> chosen) {
  Json out = {
      {"predicted", report.predicted}, {"frontier", Json::array()}, {"formats", Json::array()}};
  for (const BudgetReport::Point& point : report.frontier)
    out["frontier"].push_back({{"bytes", point.bytes}, {"predicted", point.predicted}});
  std::size_t next = 0;
  for (const PlannedTensor& planned : plan.tensors)
    if (free_to_choose(planned))
      out["formats"].push_back(
          {{"tensor", planned.tensor.name}, {"format", chosen[next++].format->id()}});
  return out;
}

Result<BudgetReport> budget_from_json(const Json& json, const Budget& budget,
                                      std::vector<Override>& overrides) {
  BudgetReport report;
  NIBBLE_TRY(report.predicted, json_number(json, "predicted"));
  for (const Json& each : json.at("frontier")) {
    BudgetReport::Point& point = report.frontier.emplace_back();
    NIBBLE_TRY(point.bytes, json_uint(each, "bytes"));
    NIBBLE_TRY(point.predicted, json_number(each, "predicted"));
  }
  for (const Json& each : json.at("formats")) {
    NIBBLE_TRY(const std::string name, json_string(each, "tensor"));
    NIBBLE_TRY(const std::string id, json_string(each, "format"));
    const Format* format = find_format(id);
    if (!format) return fail(ErrorCode::corrupt, "no format named '{}'", id);
    NIBBLE_TRY(Override chosen, exactly(name, *format, budget));
    overrides.push_back(std::move(chosen));
  }
  return report;
}

}  // namespace nibble
