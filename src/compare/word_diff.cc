#include "compare/word_diff.h"

#include <algorithm>
#include <cstdint>
#include <span>

namespace nibble {
namespace {

constexpr std::size_t kCells = 4u << 20;  // of the table, at most

struct Word {
  std::string_view text, with_space;
  bool operator==(const Word& other) const { return text == other.text; }
};

bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

/// U+3000 and beyond in UTF-8: scripts without spaces, for the most part.
bool stands_alone(char c) { return static_cast<unsigned char>(c) >= 0xe3; }
bool continues(char c) { return (static_cast<unsigned char>(c) & 0xc0) == 0x80; }

std::vector<Word> words_of(std::string_view text) {
  std::vector<Word> out;
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t begin = i;
    if (stands_alone(text[i])) {
      for (++i; i < text.size() && continues(text[i]); ++i) continue;
    } else {
      while (i < text.size() && !is_space(text[i]) && !stands_alone(text[i])) ++i;
    }
    const std::size_t end = i;
    while (i < text.size() && is_space(text[i])) ++i;
    out.push_back({text.substr(begin, end - begin), text.substr(begin, i - begin)});
  }
  return out;
}

using Kind = DiffPart::Kind;
using Words = std::span<const Word>;

/// Adjoining parts of a kind become one: the views lie one behind the other.
void add(std::vector<DiffPart>& parts, Kind kind, const Word& word) {
  if (!parts.empty() && parts.back().kind == kind) {
    std::string_view& last = parts.back().text;
    last = {last.data(), last.size() + word.with_space.size()};
  } else {
    parts.push_back({kind, word.with_space});
  }
}

/// Length of the longest common subsequence of a[i..] and b[j..] at [i][j].
std::vector<std::uint32_t> common_lengths(Words a, Words b) {
  const std::size_t width = b.size() + 1;
  std::vector<std::uint32_t> length((a.size() + 1) * width);
  for (std::size_t i = a.size(); i-- > 0;)
    for (std::size_t j = b.size(); j-- > 0;)
      length[i * width + j] =
          a[i] == b[j] ? length[(i + 1) * width + j + 1] + 1
                       : std::max(length[(i + 1) * width + j], length[i * width + j + 1]);
  return length;
}

/// Returns how many words are common.
std::size_t diff_middle(Words a, Words b, std::vector<DiffPart>& parts) {
  std::size_t i = 0, j = 0, common = 0;
  if (a.size() * b.size() <= kCells) {
    const auto length = common_lengths(a, b);
    const std::size_t width = b.size() + 1;
    while (i < a.size() && j < b.size()) {
      if (a[i] == b[j])
        add(parts, Kind::same, b[j]), ++i, ++j, ++common;
      else if (length[(i + 1) * width + j] >= length[i * width + j + 1])
        add(parts, Kind::removed, a[i++]);
      else
        add(parts, Kind::added, b[j++]);
    }
  }
  while (i < a.size()) add(parts, Kind::removed, a[i++]);
  while (j < b.size()) add(parts, Kind::added, b[j++]);
  return common;
}

}  // namespace

WordDiff diff_words(std::string_view original, std::string_view other) {
  const std::vector<Word> a = words_of(original), b = words_of(other);
  const std::size_t shorter = std::min(a.size(), b.size());
  std::size_t head = 0, tail = 0;
  while (head < shorter && a[head] == b[head]) ++head;
  while (tail < shorter - head && a[a.size() - 1 - tail] == b[b.size() - 1 - tail]) ++tail;
  WordDiff out;
  for (std::size_t j = 0; j < head; ++j) add(out.parts, Kind::same, b[j]);
  const std::size_t middle = diff_middle(Words(a).subspan(head, a.size() - head - tail),
                                         Words(b).subspan(head, b.size() - head - tail), out.parts);
  for (std::size_t j = b.size() - tail; j < b.size(); ++j) add(out.parts, Kind::same, b[j]);
  if (!a.empty()) out.kept = double(head + middle + tail) / double(a.size());
  return out;
}

}  // namespace nibble
