#include "cli/console.h"

#include <fmt/format.h>
#include <unistd.h>

#include <atomic>
#include <charconv>
#include <cmath>
#include <csignal>
#include <cstdio>

#include "base/result.h"

namespace nibble::cli {
namespace {

std::atomic<bool> interrupt_flag = false;
static_assert(std::atomic<bool>::is_always_lock_free);

/// Control characters of hostile names must not reach the terminal, and an error is one line.
std::string one_line(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (static_cast<unsigned char>(c) < 32 || c == 127) c = ' ';
  return out;
}

}  // namespace

int report(const Error& error) {
  fmt::print(stderr, "nibble: {}\n", one_line(error.message()));
  switch (error.code()) {
    case ErrorCode::cancelled:
      return kExitCancelled;
    case ErrorCode::internal:
      return kExitFault;
    default:
      return kExitBadInput;
  }
}

int print_json(const nlohmann::ordered_json& document) {
  const std::string text =
      document.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
  const bool written = std::fwrite(text.data(), 1, text.size(), stdout) == text.size();
  if (written && std::fflush(stdout) == 0) return kExitOk;
  return report(Error(ErrorCode::io, "cannot write the result to standard output"));
}

Result<std::string> parse_bytes(std::string_view text) {
  const char* end = text.data() + text.size();
  double value = 0;
  auto [rest, error] = std::from_chars(text.data(), end, value);
  std::string unit(rest, end);
  unit.erase(0, unit.find_first_not_of(' '));
  for (char& c : unit) c = char(std::tolower(c));
  const std::size_t power = unit.empty() || unit == "b" ? 0 : std::string(" kmgt").find(unit[0]);
  const std::string tail = power > 0 ? unit.substr(1) : "";
  const bool known = power <= 4 && (tail.empty() || tail == "b" || tail == "ib");
  value *= std::pow(tail == "ib" ? 1024.0 : 1000.0, double(power));
  if (error == std::errc() && known && value >= 0 && value < 9e18)
    return std::to_string(std::uint64_t(value));
  return fail(ErrorCode::invalid, "'{}' is no size; say it like 5GiB, 5.5GB or 700MB", text);
}

void watch_interrupts() {
  struct sigaction action = {};
  action.sa_handler = [](int) { interrupt_flag.store(true); };
  action.sa_flags = int(SA_RESETHAND);
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
}

bool interrupted() { return interrupt_flag.load(); }

ConsoleProgress::ConsoleProgress() : terminal_(::isatty(STDERR_FILENO) != 0) {}

ConsoleProgress::~ConsoleProgress() { clear(); }

void ConsoleProgress::clear() {
  if (drawn_) fmt::print(stderr, "\r\x1b[K");
  drawn_ = false;
}

std::string ConsoleProgress::amount(std::uint64_t n) const {
  return unit_ == "bytes" ? human_bytes(n) : fmt::format("{} {}", n, unit_);
}

void ConsoleProgress::begin(std::string_view phase, std::uint64_t total, std::string_view unit) {
  phase_ = phase;
  unit_ = unit;
  total_ = total;
  done_ = 0;
  start_ = Clock::now();
  shown_ = start_;
}

void ConsoleProgress::update(std::uint64_t done) {
  done_ = done;
  const auto now = Clock::now();
  // On a terminal the line is redrawn; a log gets a new one now and then.
  if (now - shown_ < std::chrono::milliseconds(terminal_ ? 100 : 30'000)) return;
  shown_ = now;
  const double elapsed = std::chrono::duration<double>(now - start_).count();
  std::string line = fmt::format("{}: {}", phase_, amount(done));
  if (total_ > 0 && done > 0 && done <= total_) {
    const double left = elapsed * double(total_ - done) / double(done);
    line = fmt::format("{}: {:3.0f}% of {}, {} left", phase_, 100.0 * double(done) / double(total_),
                       amount(total_), human_seconds(left));
  }
  fmt::print(stderr, "{}{}{}", terminal_ ? "\r\x1b[K" : "", one_line(line), terminal_ ? "" : "\n");
  std::fflush(stderr);
  drawn_ = terminal_;
}

void ConsoleProgress::end() {
  clear();
  const double elapsed = std::chrono::duration<double>(Clock::now() - start_).count();
  fmt::print(stderr, "{}: {} in {}\n", one_line(phase_), amount(done_), human_seconds(elapsed));
}

void ConsoleProgress::note(std::string_view message) {
  clear();
  fmt::print(stderr, "note: {}\n", one_line(message));
}

}  // namespace nibble::cli
