#include "plan/pattern.h"

#include <algorithm>

namespace nibble {
namespace {

constexpr std::size_t kMaxSteps = 4096;
constexpr int kMaxDepth = 32;
constexpr int kMaxRepeat = 256;

using Set = std::bitset<256>;

Set range(unsigned char from, unsigned char to) {
  Set set;
  for (int c = from; c <= to; ++c) set.set(std::size_t(c));
  return set;
}

}  // namespace

/// Recursive descent; every function returns code whose jumps are relative, so that pieces are
/// simply put one after the other.
class PatternParser {
 public:
  using Code = Pattern::Code;
  using Kind = Pattern::Step::Kind;

  explicit PatternParser(std::string_view text) : text_(text) {}

  Result<Code> parse() {
    NIBBLE_TRY(Code code, alternatives(0));
    if (!done()) return error("unexpected ')'");
    return code;
  }

 private:
  bool done() const { return pos_ == text_.size(); }
  bool take(char c) { return !done() && text_[pos_] == c ? (++pos_, true) : false; }
  tl::unexpected<Error> error(const char* what) const {
    return fail(ErrorCode::invalid, "'{}': {} at character {}", text_, what, pos_ + 1);
  }
  static void append(Code& to, const Code& code) { to.insert(to.end(), code.begin(), code.end()); }
  Result<Code> limited(Code code) const {
    if (code.size() > kMaxSteps) return error("the pattern grows too large");
    return code;
  }

  Result<Code> alternatives(int depth) {
    if (depth > kMaxDepth) return error("groups nested too deeply");
    NIBBLE_TRY(Code code, sequence(depth));
    while (take('|')) {
      NIBBLE_TRY(const Code other, sequence(depth));
      Code both = {{.kind = Kind::split, .b = int(code.size()) + 2}};
      append(both, code);
      both.push_back({.kind = Kind::jump, .a = int(other.size()) + 1});
      append(both, other);
      NIBBLE_TRY(code, limited(std::move(both)));
    }
    return code;
  }

  Result<Code> sequence(int depth) {
    Code code;
    while (!done() && text_[pos_] != '|' && text_[pos_] != ')') {
      NIBBLE_TRY(const Code next, repeated(depth));
      append(code, next);
      NIBBLE_TRY(code, limited(std::move(code)));
    }
    return code;
  }

  Result<Code> repeated(int depth) {
    NIBBLE_TRY(Code code, atom(depth));
    while (!done()) {
      int least = 0, most = -1;  // -1: without end
      if (take('*')) {
      } else if (take('+')) {
        least = 1;
      } else if (take('?')) {
        most = 1;
      } else if (take('{')) {
        NIBBLE_DO(bounds(least, most));
      } else {
        break;
      }
      if (code.size() * std::size_t(std::max({least, most, 1}) + 1) > kMaxSteps)
        return error("the pattern grows too large");
      code = repeat(code, least, most);
    }
    return code;
  }

  static Code repeat(const Code& once, int least, int most) {
    Code code;
    for (int i = 0; i < least; ++i) append(code, once);
    const int size = int(once.size());
    if (most < 0) {  // split over it, and back
      code.push_back({.kind = Kind::split, .b = size + 2});
      append(code, once);
      code.push_back({.kind = Kind::jump, .a = -size - 1});
    }
    for (int i = least; i < most; ++i) {
      code.push_back({.kind = Kind::split, .b = (size + 1) * (most - i)});
      append(code, once);
    }
    return code;
  }

  Result<int> number() {
    const std::size_t start = pos_;
    int n = 0;
    while (!done() && text_[pos_] >= '0' && text_[pos_] <= '9' && n <= kMaxRepeat)
      n = n * 10 + (text_[pos_++] - '0');
    if (pos_ == start) return error("a number expected");
    if (n > kMaxRepeat) return error("a repeat count above 256");
    return n;
  }

  Status bounds(int& least, int& most) {
    NIBBLE_TRY(least, number());
    most = least;
    if (take(',')) {
      most = -1;
      if (!done() && text_[pos_] != '}') {
        NIBBLE_TRY(most, number());
      }
    }
    if (!take('}')) return error("'}' expected");
    if (most >= 0 && most < least) return error("repeat bounds in the wrong order");
    return {};
  }

  Result<Code> atom(int depth) {
    const char c = text_[pos_++];
    switch (c) {
      case '(': {
        if (take('?') && !take(':')) return error("only '(?:' groups are understood");
        NIBBLE_TRY(Code code, alternatives(depth + 1));
        if (!take(')')) return error("')' expected");
        return code;
      }
      case '[':
        return char_class();
      case '.':
        return one(Set().set());
      case '^':
        return Code{{.kind = Kind::begin}};
      case '$':
        return Code{{.kind = Kind::end}};
      case '\\': {
        NIBBLE_TRY(const Set set, escaped());
        return one(set);
      }
      case '*':
      case '+':
      case '?':
      case '{':
        --pos_;
        return error("nothing to repeat");
      default:
        return one(range(static_cast<unsigned char>(c), static_cast<unsigned char>(c)));
    }
  }

  static Code one(const Set& set) { return {{.kind = Kind::set, .set = set}}; }

  Result<Set> escaped() {
    if (done()) return error("nothing after '\\'");
    const char c = text_[pos_++];
    const Set digits = range('0', '9');
    const Set words = digits | range('a', 'z') | range('A', 'Z') | range('_', '_');
    const Set blanks = range(' ', ' ') | range('\t', '\r');
    switch (c) {
      case 'd':
        return digits;
      case 'D':
        return ~digits;
      case 'w':
        return words;
      case 'W':
        return ~words;
      case 's':
        return blanks;
      case 'S':
        return ~blanks;
      default:
        break;
    }
    const auto u = static_cast<unsigned char>(c);
    if (words.test(u)) return error("an escape that is not understood");
    return range(u, u);
  }

  Result<Code> char_class() {
    const bool inverted = take('^');
    Set set;
    for (bool first = true; first || done() || text_[pos_] != ']'; first = false) {
      if (done()) return error("']' expected");
      const auto from = static_cast<unsigned char>(text_[pos_++]);
      if (from == '\\') {
        NIBBLE_TRY(const Set part, escaped());
        set |= part;
        continue;
      }
      auto to = from;
      if (pos_ + 1 < text_.size() && text_[pos_] == '-' && text_[pos_ + 1] != ']') {
        to = static_cast<unsigned char>(text_[pos_ + 1]);
        pos_ += 2;
      }
      if (to < from) return error("a range in the wrong order");
      set |= range(from, to);
    }
    ++pos_;
    return one(inverted ? ~set : set);
  }

  std::string_view text_;
  std::size_t pos_ = 0;
};

Result<Pattern> Pattern::compile(std::string_view text) {
  if (text.empty()) return fail(ErrorCode::invalid, "an empty pattern");
  Pattern pattern;
  NIBBLE_TRY(pattern.code_, PatternParser(text).parse());
  return pattern;
}

/// Adds to `out` every reading step (or the end of the code) that can be reached from `at` without
/// reading.
void Pattern::follow(std::size_t at, std::string_view text, std::size_t pos,
                     std::vector<bool>& seen, std::vector<std::size_t>& out) const {
  std::vector<std::size_t> open = {at};
  while (!open.empty()) {
    at = open.back();
    open.pop_back();
    if (seen[at]) continue;
    seen[at] = true;
    if (at == code_.size() || code_[at].kind == Step::Kind::set) {
      out.push_back(at);
      continue;
    }
    const Step& step = code_[at];
    if (step.kind == Step::Kind::begin && pos != 0) continue;
    if (step.kind == Step::Kind::end && pos != text.size()) continue;
    open.push_back(at + std::size_t(step.a));
    if (step.kind == Step::Kind::split) open.push_back(at + std::size_t(step.b));
  }
}

bool Pattern::search(std::string_view text) const {
  std::vector<std::size_t> states;
  for (std::size_t pos = 0;; ++pos) {
    std::vector<bool> seen(code_.size() + 1);
    std::vector<std::size_t> next;
    if (pos > 0)
      for (const std::size_t at : states)
        if (code_[at].set.test(static_cast<unsigned char>(text[pos - 1])))
          follow(at + 1, text, pos, seen, next);
    follow(0, text, pos, seen, next);
    if (seen[code_.size()]) return true;
    if (pos == text.size()) return false;
    states = std::move(next);
  }
}

}  // namespace nibble
