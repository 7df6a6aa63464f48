// What a subcommand is made of: options added to a CLI::App, and a function that runs it.
#pragma once

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "cli/console.h"
#include "kernel/caches.h"

namespace nibble::cli {

/// An option whose value is a number of bytes, with units (see parse_bytes).
inline CLI::Option* add_bytes(CLI::App& app, const std::string& name, std::uint64_t& bytes,
                              const std::string& help) {
  const auto read = [](std::string& text) {
    auto parsed = parse_bytes(text);
    if (!parsed) return parsed.error().message();
    text = std::move(*parsed);
    return std::string();
  };
  return app.add_option(name, bytes, help)->transform(CLI::Validator(read, "SIZE"));
}

inline CLI::Option* add_threads(CLI::App& app, int& threads) {
  return app.add_option("--threads", threads, "Threads; 0: one per core")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
}

/// How keys and values are kept; `help` says more about it.
inline CLI::Option* add_cache(CLI::App& app, std::string& type, const std::string& help = "") {
  return app
      .add_option("--cache", type,
                  fmt::format("Keys and values as {}: smaller, faster behind long texts, less "
                              "exact. Default: f16, with --exact f32{}",
                              cache_type_names(), help))
      ->check([](const std::string& name) {
        const auto found = find_cache(name, Precision::fast);
        return found ? std::string() : found.error().message();
      });
}

inline CLI::Option* add_packed(CLI::App& app, std::string& directory) {
  return app.add_option(
      "--packed", directory,
      "Directory for weights as they lie in memory: written by the first start, mapped by later "
      "ones, which then begin at once; as large as the models");
}

/// Runs the subcommand after its options were parsed; returns the exit code.
using Run = std::function<int()>;

struct Command {
  const char* name;
  Run (*add)(CLI::App& app);  // sets the description, the options and the footer with examples
};

/// Every subcommand, in the order of cli/CMakeLists.txt.
std::span<const Command> commands();

}  // namespace nibble::cli
