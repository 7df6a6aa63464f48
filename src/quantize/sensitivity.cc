#include "quantize/sensitivity.h"

#include <algorithm>
#include <cmath>

#include "round/sample.h"

namespace nibble {
namespace {

constexpr double kShrinkages[] = {0.3};

std::uint64_t bytes_in(const TensorInfo& tensor, const Format& format) {
  return tensor.rows() * format.row_bytes(tensor.columns());
}

/// The same as a place in a file, where tensors begin at multiples of 32 bytes.
std::uint64_t bytes_in_file(const TensorInfo& tensor, const Format& format) {
  return (bytes_in(tensor, format) + 31) / 32 * 32;
}

/// The format whose size is nearest to `bits` a weight.
std::size_t nearest_format(const std::vector<const Format*>& formats, double bits) {
  const auto distance = [&](const Format* f) { return std::abs(f->bits_per_weight() - bits); };
  return std::size_t(std::min_element(formats.begin(), formats.end(),
                                      [&](const Format* a, const Format* b) {
                                        return distance(a) < distance(b);
                                      }) -
                     formats.begin());
}

}  // namespace

RoundTask Sensitivity::task(const TensorInfo& tensor, std::size_t index,
                            const Format& format) const {
  RoundTask out;
  out.rows = std::int64_t(tensor.rows());
  out.columns = std::int64_t(tensor.columns());
  out.format = &format;
  out.stats.mean_square = importance_(tensor);
  out.load = [this, index](std::int64_t begin, std::int64_t end, float* rows) {
    checkpoint_.load_rows(index, std::uint64_t(begin), std::uint64_t(end), rows);
  };
  return out;
}

Result<RoundReport> Sensitivity::round(RoundTask task) const {
  const bool unknown = rounder_.needs_stats() && task.stats.mean_square.empty();
  return (unknown ? *find_rounder("nearest") : rounder_).round(task, pool_);
}

Result<Sensitivity::FormatError> Sensitivity::error(const TensorInfo& tensor, RoundTask task) {
  if (feedback_ && feedback_->block_of(tensor.name) >= 0) {
    NIBBLE_TRY(const FeedbackChoice choice,
               feedback_->choose(tensor.name, task, rounder_, kShrinkages, pool_));
    if (choice.error_alone > 0) return FormatError{choice.error_alone, choice.error};
  }
  MatrixSample sample(task);
  NIBBLE_TRY(const RoundReport report, round(sample.task));
  return FormatError{report.weighted_error, report.weighted_error};
}

Status Sensitivity::put(const Measured& measured, const Format& format) {
  const std::size_t index = measured.matrix.index;
  const TensorInfo& tensor = checkpoint_.tensors()[index];
  std::vector<std::byte> bytes(bytes_in(tensor, format));
  RoundTask whole = task(tensor, index, format);
  whole.stats.mean_square = measured.mean_square;
  whole.out = bytes;
  NIBBLE_TRY([[maybe_unused]] const auto report, round(whole));
  return judge_.put(tensor.name, format, bytes);
}

Json Sensitivity::to_json(const Measured& measured) {
  Json out = {{"slope", measured.slope}, {"mean_square", measured.mean_square}};
  for (const FormatError& each : measured.errors)
    out["errors"].push_back({{"alone", each.alone}, {"error", each.error}});
  return out;
}

Result<Sensitivity::Measured> Sensitivity::from_json(const Json& json, const Matrix& matrix) {
  Measured out{.matrix = matrix, .mean_square = {}, .errors = {}};
  NIBBLE_TRY(out.slope, json_number(json, "slope"));
  for (const Json& value : json.at("mean_square")) out.mean_square.push_back(value.get<float>());
  for (const Json& each : json.at("errors")) {
    FormatError& error = out.errors.emplace_back();
    NIBBLE_TRY(error.alone, json_number(each, "alone"));
    NIBBLE_TRY(error.error, json_number(each, "error"));
  }
  NIBBLE_CHECK(out.errors.size() == matrix.formats.size());
  return out;
}

bool Sensitivity::is_known(const Matrix& matrix) const {
  return journal_ && journal_->measured(checkpoint_.tensors()[matrix.index].name);
}

Status Sensitivity::enter(const std::vector<Matrix>& matrices, const Matrix& matrix,
                          const Progress& progress) {
  const auto block_of = [&](const Matrix& each) {
    return feedback_->block_of(checkpoint_.tensors()[each.index].name);
  };
  if (!feedback_ || block_of(matrix) < 0) return {};
  const auto known = [&](int block) {
    return std::all_of(matrices.begin(), matrices.end(), [&](const Matrix& each) {
      return block_of(each) != block || is_known(each);
    });
  };
  return feedback_->enter(block_of(matrix), known, progress);
}

Result<Sensitivity::Measured> Sensitivity::measure(const Matrix& matrix, double bits) {
  const TensorInfo& tensor = checkpoint_.tensors()[matrix.index];
  Measured out{.matrix = matrix, .mean_square = {}, .errors = {}};
  for (const Format* format : matrix.formats) {
    NIBBLE_TRY(const FormatError found, error(tensor, task(tensor, matrix.index, *format)));
    out.errors.push_back(found);
  }
  const bool fed = feedback_ && feedback_->block_of(tensor.name) >= 0;
  const auto known = fed ? feedback_->mean_square(tensor.name) : importance_(tensor);
  out.mean_square.assign(known.begin(), known.end());
  const std::size_t probe = nearest_format(matrix.formats, bits);
  NIBBLE_DO(put(out, *matrix.formats[probe]));
  NIBBLE_TRY(const double divergence, judge_.divergence(judge_.block_of(tensor.name)));
  NIBBLE_DO(judge_.restore(tensor.name));
  if (out.errors[probe].alone > 0) out.slope = divergence / out.errors[probe].alone;
  if (journal_) NIBBLE_DO(journal_->add_measured(tensor.name, to_json(out)));
  return out;
}

Result<std::vector<Candidates>> Sensitivity::measure(const std::vector<Matrix>& matrices,
                                                     double bits, Progress& progress) {
  std::vector<Candidates> out;
  progress.begin("measuring sensitivities", matrices.size(), "matrices");
  for (const Matrix& matrix : matrices) {
    if (progress.cancelled())
      return fail(ErrorCode::cancelled, "stopped; the same command goes on from here");
    const TensorInfo& tensor = checkpoint_.tensors()[matrix.index];
    const bool known = is_known(matrix);
    if (!known) NIBBLE_DO(enter(matrices, matrix, progress));
    NIBBLE_TRY_IN(
        "tensor " + tensor.name, Measured found,
        known ? from_json(*journal_->measured(tensor.name), matrix) : measure(matrix, bits));
    Candidates& candidates = out.emplace_back();
    candidates.name = tensor.name;
    for (std::size_t i = 0; i < matrix.formats.size(); ++i)
      candidates.choices.push_back({matrix.formats[i], bytes_in_file(tensor, *matrix.formats[i]),
                                    found.slope * found.errors[i].error});
    measured_.push_back(std::move(found));
    progress.update(out.size());
  }
  progress.end();
  return out;
}

Result<double> Sensitivity::excess(const Assignment& assignment, Progress& progress) {
  double sum = 0;
  progress.begin("measuring all together", measured_.size(), "matrices");
  for (std::size_t i = 0; i < measured_.size(); ++i) {
    const Measured& each = measured_[i];
    const Format* format = assignment.choices[i].format;
    const auto at = std::find(each.matrix.formats.begin(), each.matrix.formats.end(), format);
    sum += each.slope * each.errors[std::size_t(at - each.matrix.formats.begin())].alone;
    NIBBLE_DO(put(each, *format));
    progress.update(i + 1);
  }
  progress.end();
  NIBBLE_TRY(const double together, judge_.divergence());
  return sum > 0 ? together / sum : 1;
}

}  // namespace nibble
