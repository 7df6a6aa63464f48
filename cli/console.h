// What all subcommands share: progress with an estimate of the time left, errors, exit codes, JSON.
//
// stdout carries results only (with --json: one JSON document and nothing else); everything else
// goes to stderr.
#pragma once

#include <chrono>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/human.h"
#include "nibble/error.h"
#include "nibble/progress.h"

namespace nibble::cli {

inline constexpr int kExitOk = 0;
inline constexpr int kExitFault = 1;        // a fault of nibble itself
inline constexpr int kExitBadInput = 2;     // arguments, files, the system said no
inline constexpr int kExitSome = 3;         // some of what was asked for could not be done
inline constexpr int kExitCancelled = 130;  // Ctrl-C, as shells report it

/// Prints `nibble: <message>` in one line on stderr and returns the exit code for it.
int report(const Error& error);

/// Prints one JSON document on stdout. Bytes that are not UTF-8 are replaced.
int print_json(const nlohmann::ordered_json& document);

/// The bytes that "5.5GiB", "90 MB", "4G" (decimal, like GB) or "123456" stand for, as digits.
Result<std::string> parse_bytes(std::string_view text);

/// Makes Ctrl-C set a flag that ConsoleProgress::cancelled() sees; a second one kills.
void watch_interrupts();
bool interrupted();

/// Progress on stderr: on a terminal one line that is redrawn, otherwise a line a phase
/// and every half minute.
class ConsoleProgress final : public Progress {
 public:
  ConsoleProgress();
  ~ConsoleProgress() override;
  void begin(std::string_view phase, std::uint64_t total, std::string_view unit) override;
  void update(std::uint64_t done) override;
  void end() override;
  void note(std::string_view message) override;
  bool cancelled() const override { return interrupted(); }

 private:
  using Clock = std::chrono::steady_clock;
  std::string amount(std::uint64_t n) const;
  void clear();

  bool terminal_;
  bool drawn_ = false;
  std::string phase_, unit_;
  std::uint64_t total_ = 0, done_ = 0;
  Clock::time_point start_, shown_;
};

}  // namespace nibble::cli
