// Runs the program and keeps what it said.
#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>

#include "support/temp_dir.h"

namespace nibble {

struct Outcome {
  int code = 0;
  std::string out, err;
  nlohmann::json json() const { return nlohmann::json::parse(out, nullptr, false); }
};

/// `arguments` as typed in a shell; `before`: shell commands that run first ("ulimit -f 10;").
inline Outcome nibble_program(const TempDir& dir, const std::string& arguments,
                              const std::string& before = "") {
  const TempDir logs;
  const std::string command = "cd '" + dir.path() + "'; " + before + " exec " NIBBLE_PROGRAM " " +
                              arguments + " >'" + logs.path() + "/out' 2>'" + logs.path() + "/err'";
  const int status = std::system(("exec bash -c \"" + command + "\"").c_str());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), read_file(logs / "out"),
          read_file(logs / "err")};
}

/// Bad input: exit code 2, one line on stderr that begins with "nibble: ", nothing on stdout.
inline void expect_refused(const Outcome& outcome) {
  EXPECT_EQ(outcome.code, 2) << outcome.err;
  EXPECT_EQ(outcome.out, "");
  const auto start = outcome.err.rfind("nibble: ");
  ASSERT_NE(start, std::string::npos) << outcome.err;
  EXPECT_EQ(outcome.err.find('\n', start), outcome.err.size() - 1) << outcome.err;
}

}  // namespace nibble
