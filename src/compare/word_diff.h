// What differs between two texts, word by word.
#pragma once

#include <string_view>
#include <vector>

namespace nibble {

/// A run of words with the white space behind them. Views into the texts compared.
struct DiffPart {
  enum class Kind { same, added, removed };  // added: in `other` only
  Kind kind;
  std::string_view text;
};

struct WordDiff {
  std::vector<DiffPart> parts;  // without the removed ones: `other`
  double kept = 1;              // share of the original's words that are in both, 0 to 1
};

/// A longest common subsequence; of texts that differ in too many words only what they begin and
/// end with counts as common. Characters of scripts without spaces are words.
WordDiff diff_words(std::string_view original, std::string_view other);

}  // namespace nibble
