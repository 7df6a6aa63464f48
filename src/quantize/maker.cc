#include "quantize/maker.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <numeric>

#include "base/hash.h"
#include "format/exact.h"
#include "quantize/feedback.h"
#include "quantize/output.h"

namespace nibble {
namespace {

constexpr std::uint64_t kCopyPiece = 16u << 20;  // bytes copied at a time
constexpr std::uint64_t kWindow = 2u << 20;      // weights given back at a time
constexpr std::uint64_t kBufferLimit = 100u
                                       << 20;  // bytes waiting to be written, beyond one tensor

Json to_json(const QuantizedTensor& report) {
  Json out = {{"squared_error", report.squared_error},
              {"weighted_error", report.weighted_error},
              {"squared_weight", report.squared_weight},
              {"exact", report.exact}};
  if (const auto& f = report.feedback)
    out["feedback"] = {{"shrinkage", f->shrinkage},
                       {"error", f->error},
                       {"error_alone", f->error_alone},
                       {"correction", f->correction},
                       {"fallback", f->fallback}};
  return out;
}

Status from_json(const Json& record, QuantizedTensor& report) {
  NIBBLE_TRY(report.squared_error, json_number(record, "squared_error"));
  NIBBLE_TRY(report.weighted_error, json_number(record, "weighted_error"));
  NIBBLE_TRY(report.squared_weight, json_number(record, "squared_weight"));
  NIBBLE_TRY(report.exact, json_bool_or(record, "exact", false));
  const auto found = record.find("feedback");
  if (found == record.end()) return {};
  FeedbackChoice& choice = report.feedback.emplace();
  NIBBLE_TRY(choice.shrinkage, json_number(*found, "shrinkage"));
  NIBBLE_TRY(choice.error, json_number(*found, "error"));
  NIBBLE_TRY(choice.error_alone, json_number(*found, "error_alone"));
  NIBBLE_TRY(choice.correction, json_number(*found, "correction"));
  NIBBLE_TRY(choice.fallback, json_string(*found, "fallback"));
  return {};
}

/// Makes the bytes of one tensor after the other and hands them to the writer.
class Maker {
 public:
  Maker(const Job& job, FeedbackSource* feedback, ThreadPool& pool, BackgroundWriter& out,
        const Progress& progress)
      : job_(job),
        checkpoint_(*job.checkpoint),
        feedback_(feedback),
        pool_(pool),
        out_(out),
        progress_(progress) {}

  Status make(std::size_t index, QuantizedTensor& report) {
    const PlannedTensor& planned = job_.plan.tensors[index];
    NIBBLE_DO_IN("tensor " + planned.tensor.name, make_bytes(index, report));
    checkpoint_.release(index, 0, planned.tensor.rows());
    return out_.finish(index, to_json(report));
  }

  /// Goes on as if it had made the tensor, of which these are the bytes.
  Status take(std::size_t index, std::span<const std::byte> bytes, const ColumnOrder& order) {
    const TensorInfo& tensor = job_.plan.tensors[index].tensor;
    if (!fed(tensor) || copied(job_, index)) return {};
    NIBBLE_DO(enter(tensor));
    return feedback_->put(tensor.name, *tensor.format, bytes, order);
  }

 private:
  Status enter(const TensorInfo& tensor) {
    const auto finished = [this](int block) {
      for (std::size_t i = 0; i < job_.plan.tensors.size(); ++i)
        if (feedback_->block_of(job_.plan.tensors[i].tensor.name) == block && !copied(job_, i) &&
            !job_.journal->find(i))
          return false;
      return true;
    };
    return feedback_->enter(feedback_->block_of(tensor.name), finished, progress_);
  }

  Status make_bytes(std::size_t index, QuantizedTensor& report) {
    if (copied(job_, index)) return copy(index);
    NIBBLE_TRY(report.exact, convert(index));
    return report.exact ? Status{} : round(index, report);
  }

  /// Makes the tensor if its format holds just the values that are stored.
  Result<bool> convert(std::size_t index) {
    const TensorInfo& tensor = job_.plan.tensors[index].tensor;
    const Format& from = *job_.plan.tensors[index].stored;
    if (!may_convert_exactly(from, *tensor.format) || checkpoint_.tensors()[index].order ||
        !checkpoint_.keeps_values(index))
      return false;
    const std::uint64_t row = tensor.bytes / tensor.rows();
    const std::size_t stored = from.row_bytes(tensor.columns());
    auto buffer = out_.acquire(tensor.bytes);
    std::atomic<bool> exact = true;
    pool_.run(std::int64_t(tensor.rows()), panel(row), [&](std::int64_t begin, std::int64_t end) {
      std::vector<std::byte> bytes(stored);
      for (auto r = std::uint64_t(begin); exact && r < std::uint64_t(end); ++r) {
        checkpoint_.load_bytes(index, r, r + 1, bytes.data());
        if (!convert_exactly(from, bytes.data(), *tensor.format, tensor.columns(),
                             buffer.data.get() + r * row))
          exact = false;
      }
    });
    if (exact) {
      if (fed(tensor)) NIBBLE_DO(enter(tensor));
      NIBBLE_DO(hand_over(index, std::move(buffer)));
    } else {
      out_.give_back(std::move(buffer));
    }
    return bool(exact);
  }

  /// Rows whose bytes, `row` each, make a good piece of work for one thread.
  static std::int64_t panel(std::uint64_t row) {
    return std::int64_t(std::max<std::uint64_t>(1, (1u << 20) / row));
  }

  Status copy(std::size_t index) {
    const TensorInfo& tensor = job_.plan.tensors[index].tensor;
    const std::uint64_t row = tensor.bytes / tensor.rows();
    const std::uint64_t step = std::max<std::uint64_t>(1, kCopyPiece / row);
    for (std::uint64_t first = 0; first < tensor.rows(); first += step) {
      const std::uint64_t rows = std::min(step, tensor.rows() - first);
      auto buffer = out_.acquire(rows * row);
      pool_.run(std::int64_t(rows), panel(row), [&](std::int64_t begin, std::int64_t end) {
        const std::uint64_t b = first + std::uint64_t(begin), e = first + std::uint64_t(end);
        checkpoint_.load_bytes(index, b, e, buffer.data.get() + std::uint64_t(begin) * row);
        checkpoint_.release(index, b, e);
      });
      NIBBLE_DO(out_.push(index, std::move(buffer)));
    }
    return {};
  }

  /// Experts share a tensor but not their inputs: each has its own importance, and so its own task.
  Result<std::span<const float>> importance(const TensorInfo& tensor, std::uint64_t& matrices) {
    matrices = 1;
    const std::span<const float> known = importance_of(job_, tensor);
    const std::uint64_t experts = tensor.shape.size() == 3 ? tensor.shape[0] : 1;
    if (known.size() == tensor.columns() * experts) {
      matrices = experts;
    } else if (!known.empty() && known.size() != tensor.columns()) {
      return fail(ErrorCode::invalid,
                  "the importance matrix has {} values for its {} columns: it is of another model",
                  known.size(), tensor.columns());
    }
    return known;
  }

  Status round(std::size_t index, QuantizedTensor& report) {
    const TensorInfo& tensor = job_.plan.tensors[index].tensor;
    std::uint64_t matrices = 1;
    NIBBLE_TRY(const auto mean_square, importance(tensor, matrices));
    const std::uint64_t rows = tensor.rows() / matrices;
    const std::uint64_t window = std::max<std::uint64_t>(1, kWindow / tensor.columns());
    auto buffer = out_.acquire(tensor.bytes);
    for (std::uint64_t m = 0; m < matrices; ++m) {
      RoundTask task;
      task.rows = std::int64_t(rows);
      task.columns = std::int64_t(tensor.columns());
      task.format = tensor.format;
      if (!mean_square.empty())
        task.stats.mean_square =
            mean_square.subspan(matrices > 1 ? m * tensor.columns() : 0, tensor.columns());
      task.load = [&, m](std::int64_t begin, std::int64_t end, float* out) {
        const std::uint64_t b = m * rows + std::uint64_t(begin), e = m * rows + std::uint64_t(end);
        checkpoint_.load_rows(index, b, e, out);
        // Giving pages back interrupts every core, so a whole window at a time. Rows that another
        // thread still reads come back by themselves, and go when the tensor is done.
        if (const std::uint64_t w = e / window; w != b / window)
          checkpoint_.release(index, b / window * window, w * window);
      };
      task.out = buffer.bytes().subspan(m * (tensor.bytes / matrices), tensor.bytes / matrices);
      NIBBLE_TRY(const RoundReport errors, round(tensor, task, report));
      report.squared_error += errors.squared_error;
      report.weighted_error += errors.weighted_error;
      report.squared_weight += errors.squared_weight;
    }
    return hand_over(index, std::move(buffer));
  }

  /// The bytes of a whole matrix, to the writer and to the model that the next blocks see.
  Status hand_over(std::size_t index, BackgroundWriter::Buffer buffer) {
    const TensorInfo& tensor = job_.plan.tensors[index].tensor;
    NIBBLE_TRY(const TensorAttributes attributes, attributes_of(tensor));
    if (fed(tensor))
      NIBBLE_DO(feedback_->put(tensor.name, *tensor.format, buffer.bytes(), attributes.order));
    return out_.push(index, std::move(buffer), attributes);
  }

  Result<TensorAttributes> attributes_of(const TensorInfo& tensor) {
    TensorAttributes out;
    if (fed(tensor)) out.order = feedback_->order(tensor.name);
    const Packer* packer = job_.plan.target.packer.get();
    if (!packer || !packer->needs_largest_input() || tensor.format != &packer->format()) return out;
    const float largest = fed(tensor) ? feedback_->largest(tensor.name) : 0;
    if (!(largest > 0 && std::isfinite(largest)))
      return fail(ErrorCode::unsupported,
                  "its largest input is not known, which --to {} stores: no token of the "
                  "calibration text reaches it; take a longer text or dynamic scales",
                  job_.plan.target.text);
    out.inputs = packer->stored_inputs(largest);
    return out;
  }

  bool fed(const TensorInfo& tensor) const {
    return feedback_ && tensor.shape.size() == 2 && feedback_->block_of(tensor.name) >= 0;
  }

  Result<RoundReport> round(const TensorInfo& tensor, RoundTask& task, QuantizedTensor& report) {
    if (fed(tensor)) {
      FeedbackChoice choice;
      NIBBLE_DO(enter(tensor));
      NIBBLE_TRY(const RoundReport errors,
                 feedback_->round(tensor.name, task, *job_.rounder, choice, pool_));
      report.feedback = choice;
      return errors;
    }
    const bool unknown = job_.rounder->needs_stats() && task.stats.mean_square.empty();
    return (unknown ? find_rounder("nearest") : job_.rounder)->round(task, pool_);
  }

  const Job& job_;
  const Checkpoint& checkpoint_;
  FeedbackSource* feedback_;  // null: there is none
  ThreadPool& pool_;
  BackgroundWriter& out_;
  const Progress& progress_;
};

/// Feedback takes blocks in turn, whatever the order of the file.
std::vector<std::size_t> order_of_work(const Job& job, const FeedbackSource* feedback) {
  std::vector<std::size_t> order(job.plan.tensors.size());
  std::iota(order.begin(), order.end(), 0);
  if (!feedback) return order;
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    const auto block = [&](std::size_t i) {
      return feedback->block_of(job.plan.tensors[i].tensor.name);
    };
    return block(a) < block(b);
  });
  return order;
}

/// Reads what an earlier run has written of a tensor; empty: nothing that can be used.
std::vector<std::byte> read_back(const Job& job, std::size_t index, Writer& writer) {
  std::vector<std::byte> bytes(job.plan.tensors[index].tensor.bytes);
  if (!job.journal->find(index) || !writer.read_back(index, bytes)) bytes.clear();
  return bytes;
}

/// Has the journal say only what the unfinished output bears out.
void check_journal(Job& job, Writer& writer) {
  for (std::size_t i = 0; i < job.plan.tensors.size(); ++i) {
    const Json* record = job.journal->find(i);
    if (!record) continue;
    Sha256 sha;
    sha.update(read_back(job, i, writer));
    const auto hash = json_string(*record, "sha256");
    if (hash && sha.hex() == *hash)
      writer.keep(i);
    else
      job.journal->forget(i);
  }
}

}  // namespace

Status make_tensors(Job& job, int threads, ThreadPool& pool, Writer& writer, QuantizeReport& report,
                    Progress& progress) {
  check_journal(job, writer);
  std::unique_ptr<FeedbackSource> feedback;
  if (job.rounder->needs_moments() && job.windows) {
    const Packer* packer = job.plan.target.packer.get();
    NIBBLE_TRY(feedback,
               FeedbackSource::open(*job.model, *job.windows, threads, job.spill_folder,
                                    packer && packer->act_order(), job.rounder->needs_reference()));
  }
  std::uint64_t largest = 0, done = 0;
  for (const PlannedTensor& planned : job.plan.tensors)
    largest = std::max(largest, planned.tensor.bytes);
  BackgroundWriter out(writer, *job.journal, std::max(largest, kBufferLimit));
  Maker maker(job, feedback.get(), pool, out, progress);
  progress.begin("quantizing", report.source_bytes, "bytes");
  for (const std::size_t i : order_of_work(job, feedback.get())) {
    if (progress.cancelled()) {
      NIBBLE_DO(out.drain());
      return fail(ErrorCode::cancelled, "stopped; the same command goes on from here");
    }
    const auto bytes = read_back(job, i, writer);
    NIBBLE_DO_IN(job.checkpoint->source().path(),
                 bytes.empty() ? maker.make(i, report.tensors[i])
                               : maker.take(i, bytes, writer.attributes(i).order));
    if (!bytes.empty()) NIBBLE_DO(from_json(*job.journal->find(i), report.tensors[i]));
    progress.update(done += job.checkpoint->tensors()[i].bytes);
  }
  NIBBLE_DO(out.drain());
  progress.end();
  return {};
}

}  // namespace nibble
