// The program `nibble`: picks a subcommand and runs it.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <string_view>

#include "cli/command.h"
#include "nibble/version.h"

namespace nibble::cli {
namespace {

constexpr const char* kFooter =
    "Examples:\n"
    "  nibble quantize ./SmolLM2 -o small.gguf --to Q4_K_M\n"
    "  nibble eval small.gguf --text wiki.txt --ref ./SmolLM2\n"
    "  nibble run small.gguf -p 'Why is the sky blue?'\n"
    "Every subcommand has its own --help with more.";

/// Mapped input that shrinks while it is read raises SIGBUS: say so instead of dumping core.
void on_bus_error(int) {
  constexpr std::string_view line =
      "nibble: an input file became shorter, or its disk failed, while it was being read; "
      "run again when it is complete\n";
  [[maybe_unused]] const auto n = ::write(STDERR_FILENO, line.data(), line.size());
  ::_exit(kExitBadInput);
}

/// CLI11's own output would be several lines, and its exit codes are others.
int report_usage(const CLI::App& app, const CLI::ParseError& error) {
  const CLI::App* used = &app;
  for (const CLI::App* sub : app.get_subcommands()) used = sub;
  const std::string name = used == &app ? "nibble" : "nibble " + used->get_name();
  return report(Error(ErrorCode::invalid, fmt::format("{} (see: {} --help)", error.what(), name)));
}

int run(int argc, char** argv) {
  CLI::App app("Makes large language models small: quantizes, judges and runs them.", "nibble");
  app.set_version_flag("--version", std::string(version()));
  app.footer(kFooter);
  app.require_subcommand(1);
  std::vector<std::pair<CLI::App*, Run>> runs;
  for (const Command& command : commands()) {
    CLI::App* sub = app.add_subcommand(command.name);
    runs.emplace_back(sub, command.add(*sub));
  }
  const std::string_view first = argc > 1 ? argv[1] : "-";
  if (first.starts_with("-") && argc > 1 && !app.get_option_no_throw(std::string(first)))
    return report(
        Error(ErrorCode::invalid, fmt::format("no option '{}' (see: nibble --help)", first)));
  if (!first.starts_with("-") && std::none_of(runs.begin(), runs.end(), [&](const auto& each) {
        return each.first->get_name() == first;
      })) {
    return report(
        Error(ErrorCode::invalid, fmt::format("no subcommand '{}' (see: nibble --help)", first)));
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help, --version
    return report_usage(app, error);
  }
  for (const auto& [sub, function] : runs)
    if (sub->parsed()) return function();
  return kExitBadInput;
}

}  // namespace
}  // namespace nibble::cli

int main(int argc, char** argv) {
  std::signal(SIGXFSZ, SIG_IGN);  // a file size limit becomes a write error
  std::signal(SIGBUS, nibble::cli::on_bus_error);
  nibble::cli::watch_interrupts();
  try {
    return nibble::cli::run(argc, argv);
  } catch (const std::exception& error) {  // out of memory, mostly
    fmt::print(stderr, "nibble: {}\n", error.what());
    return nibble::cli::kExitFault;
  }
}
