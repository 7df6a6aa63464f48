// The user's own questions, judged by the text of the answer.
#include <regex>

#include "base/jsonl.h"
#include "eval/answer.h"
#include "eval/metrics.h"
#include "nibble/evaluate.h"

namespace nibble {
namespace {

// In bytes. libstdc++ compiles patterns by recursion: 20000 nested groups exhaust the stack.
constexpr std::size_t kLongestPattern = 1000;

struct Question {
  std::string prompt, expected, match;
  std::optional<std::regex> pattern;
  std::uint32_t max_tokens = 0;
};

std::string trimmed(const std::string& text) {
  const auto begin = text.find_first_not_of(" \t\r\n");
  if (begin == std::string::npos) return "";
  return text.substr(begin, text.find_last_not_of(" \t\r\n") - begin + 1);
}

Result<Question> parse_question(const Json& item) {
  Question q;
  NIBBLE_TRY(q.prompt, json_string(item, "prompt"));
  NIBBLE_TRY(q.expected, json_string(item, "expected"));
  NIBBLE_TRY(q.match, json_string_or(item, "match", "contains"));
  NIBBLE_TRY(const std::uint64_t max_tokens, json_uint_or(item, "max_tokens", 64));
  if (q.prompt.empty()) return fail(ErrorCode::corrupt, "field 'prompt' is empty");
  if (max_tokens < 1 || max_tokens > 65536)
    return fail(ErrorCode::invalid, "field 'max_tokens' is {}, expected 1 to 65536", max_tokens);
  q.max_tokens = std::uint32_t(max_tokens);
  if (q.match == "regex") {
    if (q.expected.size() > kLongestPattern)
      return fail(ErrorCode::invalid, "field 'expected' has {} bytes, a regex at most {}",
                  q.expected.size(), kLongestPattern);
    try {
      // The breadth-first executor of libstdc++: linear time and no recursion, whatever the
      // pattern.
      q.pattern.emplace(q.expected, std::regex::ECMAScript | std::regex_constants::__polynomial);
    } catch (const std::regex_error& e) {
      return fail(ErrorCode::invalid,
                  "field 'expected' is not a regular expression nibble can use: {}", e.what());
    }
  } else if (q.match != "exact" && q.match != "contains") {
    return fail(ErrorCode::invalid, "field 'match' is '{}', expected exact, contains or regex",
                q.match);
  }
  return q;
}

bool is_right(const Question& q, const std::string& answer) {
  if (q.pattern) return std::regex_search(answer, *q.pattern);
  if (q.match == "exact") return trimmed(answer) == trimmed(q.expected);
  return answer.find(q.expected) != std::string::npos;
}

}  // namespace

Result<TaskScore> evaluate_task(const TaskOptions& options, Progress& progress) {
  NIBBLE_TRY(const auto items, read_jsonl(options.file, options.limit));
  std::vector<Question> questions;
  for (std::size_t i = 0; i < items.size(); ++i) {
    NIBBLE_TRY_IN(fmt::format("{}: item {}", options.file, i + 1), Question q,
                  parse_question(items[i]));
    questions.push_back(std::move(q));
  }
  const auto precision = options.fast ? Precision::fast : Precision::exact;
  const RuntimeOptions runtime_options = {
      .threads = options.threads, .precision = precision, .cache = options.cache};
  NIBBLE_TRY(auto answerer, Answerer::load(options.model, runtime_options, progress));
  TaskScore score;
  std::vector<double> right;
  progress.begin("answering", questions.size(), "questions");
  for (const Question& q : questions) {
    if (progress.cancelled())
      return fail(ErrorCode::cancelled, "stopped after {} questions", right.size());
    const std::string where = fmt::format("{}: item {}", options.file, right.size() + 1);
    NIBBLE_TRY_IN(where, std::string answer, answerer.answer(q.prompt, q.max_tokens));
    right.push_back(is_right(q, answer) ? 1 : 0);
    score.items.push_back({q.prompt, q.expected, std::move(answer), right.back() > 0});
    progress.update(right.size());
  }
  progress.end();
  score.accuracy = mean_of(right);
  return score;
}

}  // namespace nibble
