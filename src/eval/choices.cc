// Multiple choice: which ending does the model find most probable?
#include <algorithm>
#include <cmath>

#include "arch/arch.h"
#include "base/jsonl.h"
#include "eval/metrics.h"
#include "graph/runtime.h"
#include "nibble/evaluate.h"
#include "text/tokenizer.h"

namespace nibble {
namespace {

struct Question {
  std::string context;
  std::vector<std::string> endings;
  std::size_t answer = 0;
};

const Json* first_of(const Json& item, std::initializer_list<const char*> names) {
  for (const char* name : names)
    if (const auto it = item.find(name); it != item.end()) return &*it;
  return nullptr;
}

/// An ending follows its context after one space, unless either brings white space along.
std::string joined(const std::string& context, const std::string& ending) {
  const auto space = [](char c) { return c == ' ' || c == '\n' || c == '\t'; };
  const bool apart =
      context.empty() || ending.empty() || space(context.back()) || space(ending.front());
  return apart ? ending : " " + ending;
}

Result<std::size_t> answer_index(const Json& label, std::size_t endings) {
  std::int64_t index = -1;
  if (label.is_number_integer()) index = label.get<std::int64_t>();
  if (label.is_string()) {
    const std::string text = label.get<std::string>();
    if (text.size() == 1 && text[0] >= '0' && text[0] <= '9') index = text[0] - '0';
    if (text.size() == 1 && text[0] >= 'A' && text[0] <= 'Z') index = text[0] - 'A';
  }
  if (index < 0 || std::size_t(index) >= endings)
    return fail(ErrorCode::corrupt, "field 'label' does not name one of the {} endings", endings);
  return std::size_t(index);
}

Result<Question> parse_question(const Json& item) {
  const Json* context = first_of(item, {"context", "question", "prompt", "ctx"});
  const Json* endings = first_of(item, {"endings", "choices"});
  const Json* label = first_of(item, {"label", "answer"});
  if (!context || !context->is_string())
    return fail(ErrorCode::corrupt, "field 'context' is missing or not a string");
  if (!endings || !endings->is_array() || endings->size() < 2)
    return fail(ErrorCode::corrupt,
                "field 'endings' is missing or not a list of at least two strings");
  if (!label) return fail(ErrorCode::corrupt, "field 'label' is missing");
  Question q;
  q.context = context->get<std::string>();
  for (const Json& ending : *endings) {
    if (!ending.is_string() || ending.get_ref<const std::string&>().empty())
      return fail(ErrorCode::corrupt,
                  "field 'endings' holds something that is not a string, or an empty one");
    q.endings.push_back(joined(q.context, ending.get<std::string>()));
  }
  NIBBLE_TRY(q.answer, answer_index(*label, q.endings.size()));
  return q;
}

/// ln P(ending | context). What the endings share with what the session already holds is not
/// computed again.
class Scorer {
 public:
  Scorer(Session& session, const Tokenizer& tokenizer, std::uint32_t vocab)
      : session_(session), tokenizer_(tokenizer), vocab_(vocab) {}

  Result<double> log_probability(const std::string& context, const std::string& ending) {
    NIBBLE_TRY(const auto prefix, tokenizer_.encode(context));
    NIBBLE_TRY(const auto tokens, tokenizer_.encode(context + ending));
    // The first token of the ending, as evaluation harnesses count it; at least one token must
    // precede it.
    const std::size_t first = std::min(std::max<std::size_t>(1, prefix.size()), tokens.size());
    if (tokens.size() <= first)
      return fail(ErrorCode::invalid, "an ending has no tokens of its own");
    std::size_t shared = 0;
    while (shared < std::min(held_.size(), first - 1) && held_[shared] == tokens[shared]) ++shared;
    session_.truncate(std::uint32_t(shared));
    held_ = tokens;
    const std::span<const Token> rest(tokens.data() + shared, tokens.size() - 1 - shared);
    NIBBLE_TRY(const auto logits, session_.forward(rest, Session::Logits::all));
    double sum = 0;
    for (std::size_t i = first; i < tokens.size(); ++i)
      sum -= negative_log_likelihood(logits.subspan((i - 1 - shared) * vocab_, vocab_), tokens[i]);
    held_.pop_back();
    return sum;
  }

 private:
  Session& session_;
  const Tokenizer& tokenizer_;
  std::size_t vocab_;
  std::vector<Token> held_;
};

}  // namespace

Result<ChoiceScore> evaluate_choices(const TaskOptions& options, Progress& progress) {
  NIBBLE_TRY(const auto items, read_jsonl(options.file, options.limit));
  std::vector<Question> questions;
  for (std::size_t i = 0; i < items.size(); ++i) {
    NIBBLE_TRY_IN(fmt::format("{}: item {}", options.file, i + 1), Question q,
                  parse_question(items[i]));
    questions.push_back(std::move(q));
  }
  NIBBLE_TRY(const Model model, Model::open(options.model));
  NIBBLE_TRY_IN(options.model, const Tokenizer tokenizer, Tokenizer::open(model.source()));
  const auto precision = options.fast ? Precision::fast : Precision::exact;
  const RuntimeOptions runtime_options = {
      .threads = options.threads, .precision = precision, .cache = options.cache};
  NIBBLE_TRY_IN(options.model, const auto runtime, Runtime::load(model, runtime_options, progress));
  Session session(*runtime, model.config().context);
  Scorer scorer(session, tokenizer, model.config().vocab);
  std::vector<double> right, right_normalized;
  progress.begin("answering", questions.size(), "questions");
  for (const Question& q : questions) {
    if (progress.cancelled())
      return fail(ErrorCode::cancelled, "stopped after {} questions", right.size());
    std::size_t best = 0, best_normalized = 0;
    double best_sum = -INFINITY, best_mean = -INFINITY;
    for (std::size_t i = 0; i < q.endings.size(); ++i) {
      NIBBLE_TRY_IN(fmt::format("{}: item {}", options.file, right.size() + 1), const double sum,
                    scorer.log_probability(q.context, q.endings[i]));
      const double mean = sum / double(q.endings[i].size());
      if (sum > best_sum) best_sum = sum, best = i;
      if (mean > best_mean) best_mean = mean, best_normalized = i;
    }
    right.push_back(best == q.answer ? 1 : 0);
    right_normalized.push_back(best_normalized == q.answer ? 1 : 0);
    progress.update(right.size());
  }
  progress.end();
  return ChoiceScore{questions.size(), mean_of(right), mean_of(right_normalized)};
}

}  // namespace nibble
