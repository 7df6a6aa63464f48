// How plans and results of quantize and convert are shown.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "cli/console.h"
#include "nibble/quantize.h"

namespace nibble::cli {

/// What both subcommands share.
struct QuantizeCommand {
  QuantizeOptions options;
  bool json = false, dry_run = false, verbose = false;
  std::string plot;  // an SVG file for the frontier of a budget; empty: none
};

void add_common_options(CLI::App& app, QuantizeCommand& command);
int run_quantize(const QuantizeCommand& command);

}  // namespace nibble::cli
