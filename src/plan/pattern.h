// Regular expressions over tensor names, matched in time proportional to pattern times name
// whatever the pattern (Thompson's set simulation: no backtracking).
#pragma once

#include <bitset>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace nibble {

/// Understands literals, `.`, classes `[a-z]` `[^0-9]`, `\d \w \s` and escaped punctuation, groups,
/// `|`, `*`, `+`, `?`, `{m}`, `{m,n}`, `{m,}`, `^` and `$`.
class Pattern {
 public:
  /// Errors say at which character. Patterns that would take more than 4096 steps are refused.
  static Result<Pattern> compile(std::string_view text);

  /// True if the pattern occurs anywhere in `text`.
  bool search(std::string_view text) const;

 private:
  friend class PatternParser;
  /// One step; `a` and `b` are distances to the next ones.
  struct Step {
    enum class Kind { set, split, jump, begin, end } kind;
    std::bitset<256> set = {};
    int a = 1, b = 1;
  };
  using Code = std::vector<Step>;

  void follow(std::size_t at, std::string_view text, std::size_t pos, std::vector<bool>& seen,
              std::vector<std::size_t>& out) const;
  Code code_;
};

}  // namespace nibble
