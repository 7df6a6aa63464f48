// round_tap FORMAT THREADS IN OUT: error feedback on the matrices that read one tap, as
// bench/peers/error_feedback.py compares it. IN: int64 columns, tokens, matrices; float32 inputs
// [tokens][columns]; then for each matrix int64 rows and float32 weights [rows][columns]. OUT: the
// rounded weights, float32. Prints the CPU seconds of all threads, and wall seconds, from the
// inputs to the bytes of the matrices.
#include <fmt/format.h>
#include <sys/resource.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "calib/moments.h"
#include "round/rounder.h"

namespace nibble {
namespace {

struct Matrix {
  std::int64_t rows = 0;
  std::vector<float> weights;
  std::vector<std::byte> rounded;
};

struct Tap {
  std::int64_t columns = 0, tokens = 0;
  std::vector<float> inputs;
  std::vector<Matrix> matrices;
};

std::int64_t get_count(std::ifstream& in) {
  std::int64_t n = 0;
  in.read(reinterpret_cast<char*>(&n), sizeof n);
  return n;
}

std::vector<float> get_floats(std::ifstream& in, std::int64_t n) {
  std::vector<float> out(static_cast<std::size_t>(n));
  in.read(reinterpret_cast<char*>(out.data()), n * std::int64_t(sizeof(float)));
  return out;
}

Tap read_tap(const char* path) {
  std::ifstream in(path, std::ios::binary);
  Tap tap;
  tap.columns = get_count(in), tap.tokens = get_count(in);
  tap.matrices.resize(std::size_t(get_count(in)));
  tap.inputs = get_floats(in, tap.tokens * tap.columns);
  for (Matrix& m : tap.matrices) {
    m.rows = get_count(in);
    m.weights = get_floats(in, m.rows * tap.columns);
  }
  return tap;
}

Status round_tap(Tap& tap, const Format& format, ThreadPool& pool) {
  MomentSums sums;
  sums.add("tap", tap.inputs.data(), tap.tokens, tap.columns, pool);
  const SecondMoment moment = *sums.take("tap");
  // The error is judged on this very second moment: nothing of it is to be distrusted.
  NIBBLE_TRY(const FeedbackFactor factor,
             factorize(moment, format.block(), {.shrinkage = 0, .damping = 0.01}, pool));
  std::vector<float> mean_square;
  for (std::int64_t j = 0; j < tap.columns; ++j) mean_square.push_back(moment.mean_square(j));
  for (Matrix& m : tap.matrices) {
    m.rounded.resize(std::size_t(m.rows) * format.row_bytes(std::size_t(tap.columns)));
    RoundTask task;
    task.rows = m.rows, task.columns = tap.columns, task.format = &format, task.out = m.rounded;
    task.stats = {.mean_square = mean_square, .count = moment.count, .factor = &factor};
    task.load = [&](std::int64_t begin, std::int64_t end, float* out) {
      std::copy(m.weights.begin() + begin * tap.columns, m.weights.begin() + end * tap.columns,
                out);
    };
    NIBBLE_TRY([[maybe_unused]] const auto report, find_rounder("gptq")->round(task, pool));
  }
  return {};
}

double cpu_seconds() {
  rusage used{};
  getrusage(RUSAGE_SELF, &used);
  const auto seconds = [](const timeval& t) { return double(t.tv_sec) + 1e-6 * double(t.tv_usec); };
  return seconds(used.ru_utime) + seconds(used.ru_stime);
}

int run(const char* format_id, int threads, const char* in, const char* out) {
  const Format* format = find_format(format_id);
  if (!format) return fmt::print(stderr, "no format {}\n", format_id), 2;
  Tap tap = read_tap(in);
  ThreadPool pool(threads);
  // Before the clock runs all is done once, as GPTQModel's process has done things before, and
  // OpenBLAS's own threads, which nobody uses, have stopped spinning after the start.
  if (const Status done = round_tap(tap, *format, pool); !done)
    return fmt::print(stderr, "{}\n", done.error().message()), 1;
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  const double cpu = cpu_seconds();
  const auto wall = std::chrono::steady_clock::now();
  if (const Status done = round_tap(tap, *format, pool); !done)
    return fmt::print(stderr, "{}\n", done.error().message()), 1;
  const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - wall;
  fmt::print("{} {}\n", cpu_seconds() - cpu, taken.count());
  std::ofstream file(out, std::ios::binary);
  for (Matrix& m : tap.matrices) {
    format->decode(m.rounded.data(), m.weights.size() / std::size_t(format->block()),
                   m.weights.data());
    file.write(reinterpret_cast<const char*>(m.weights.data()),
               std::int64_t(m.weights.size() * sizeof(float)));
  }
  return file ? 0 : 1;
}

}  // namespace
}  // namespace nibble

int main(int argc, char** argv) {
  if (argc != 5) return fmt::print(stderr, "round_tap FORMAT THREADS IN OUT\n"), 2;
  return nibble::run(argv[1], std::atoi(argv[2]), argv[3], argv[4]);
}
