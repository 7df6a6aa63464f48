// How many instructions a product takes, exactly: a second process goes through it one by one. So
// the speed of an instruction set can be reasoned about where no processor is at hand.
//   instructions FORMAT ISA TOKENS PANELS           prints the instructions for so many panels
//   instructions FORMAT ISA TOKENS PANELS REPEATS   only multiplies, for emulators that count
#include <fmt/core.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <string_view>

#include "base/cpu.h"
#include "random_matrix.h"

namespace nibble {
namespace {

/// Instructions of `work` in a child process; -1: the system does not let one trace.
template <class Fn>
std::int64_t count_instructions(const Fn& work) {
  const pid_t child = ::fork();
  if (child == 0) {
    if (::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) ::_exit(1);
    ::raise(SIGSTOP);
    work();
    ::raise(SIGSTOP);
    ::_exit(0);
  }
  int status = 0;
  const auto stopped_by = [&](int signal) {
    return ::waitpid(child, &status, 0) == child && WIFSTOPPED(status) &&
           WSTOPSIG(status) == signal;
  };
  if (!stopped_by(SIGSTOP)) return -1;
  std::int64_t count = 0;
  while (::ptrace(PTRACE_SINGLESTEP, child, nullptr, nullptr) == 0 && stopped_by(SIGTRAP)) ++count;
  const bool done = WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP;
  ::kill(child, SIGKILL);
  ::waitpid(child, &status, 0);
  return done ? count : -1;
}

int run(const Format& format, const char* isa, std::int64_t tokens, std::int64_t panels,
        long repeats) {
  const std::int64_t rows = panels * kPanelRows;
  const Matrix matrix = random_matrix(format, rows, isa);
  std::vector<float> x(std::size_t(tokens * kColumns)), out(std::size_t(tokens * rows));
  std::uint32_t state = 1;
  for (float& value : x) value = noise(state);
  ThreadPool pool(1);
  Input input(x.data(), tokens, kColumns, Precision::fast);
  const auto multiply = [&] { input.multiply(matrix, nullptr, out.data(), rows, pool); };
  multiply();  // rounds the inputs and makes room, once
  for (long i = 0; i < repeats; ++i) multiply();
  if (repeats > 0) return 0;
  const std::int64_t count = count_instructions(multiply);
  if (count < 0) {
    fmt::print(stderr, "instructions: processes cannot be traced here\n");
    return 1;
  }
  fmt::print("{}\n", count);
  return 0;
}

}  // namespace
}  // namespace nibble

int main(int argc, char** argv) {
  const auto number = [&](int i) { return argc > i ? std::strtol(argv[i], nullptr, 10) : 0; };
  const nibble::Format* format = argc > 1 ? nibble::find_format(argv[1]) : nullptr;
  if (!format || number(3) < 1 || number(4) < 1 || !nibble::isa_runs(argv[2])) {
    fmt::print(stderr, "instructions FORMAT ISA TOKENS PANELS [REPEATS], of an ISA that runs\n");
    return 2;
  }
  return nibble::run(*format, argv[2], number(3), number(4), number(5));
}
