// What a subcommand is made of: options added to a CLI::App, and a function that runs it.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <span>
#include <string>

#include "cli/console.h"

namespace nibble::cli {

/// Runs the subcommand after its options were parsed; returns the exit code.
using Run = std::function<int()>;

struct Command {
  const char* name;
  Run (*add)(CLI::App& app);  // sets the description, the options and the footer with examples
};

/// Every subcommand, in the order of cli/CMakeLists.txt.
std::span<const Command> commands();

}  // namespace nibble::cli
