#include "export/chat_form.h"

#include <algorithm>

namespace nibble {
namespace {

// Words that no template contains, and that trimming leaves as they are.
const std::string kSystem = "QsystemQ", kUser = "QuserQ", kAnswer = "QanswerQ", kNext = "QnextQ";

Json messages_of(const std::string* system, const std::vector<std::string>& contents) {
  Json messages = Json::array();
  if (system) messages.push_back({{"role", "system"}, {"content", *system}});
  for (std::size_t i = 0; i < contents.size(); ++i)
    messages.push_back({{"role", i % 2 == 0 ? "user" : "assistant"}, {"content", contents[i]}});
  return messages;
}

/// The text without the BOS that tokenizers add by themselves.
Result<std::string> rendered(const Tokenizer& tokenizer, const std::string* system,
                             const std::vector<std::string>& contents) {
  NIBBLE_TRY(std::string text, tokenizer.render_chat(messages_of(system, contents), true));
  if (!tokenizer.adds_bos()) return text;
  const std::string bos = tokenizer.token_bytes(*tokenizer.bos());
  return !bos.empty() && text.starts_with(bos) ? text.substr(bos.size()) : text;
}

/// The pieces of `text` around `words`, which it is to contain once each and in this order.
Result<std::vector<std::string>> pieces(const std::string& text,
                                        const std::vector<std::string>& words) {
  std::vector<std::string> out;
  std::size_t from = 0;
  for (const std::string& word : words) {
    const std::size_t at = text.find(word, from);
    if (at == text.npos || text.find(word, at + 1) != text.npos)
      return fail(ErrorCode::unsupported, "it changes, repeats or leaves out messages");
    out.push_back(text.substr(from, at - from));
    from = at + word.size();
  }
  out.push_back(text.substr(from));
  return out;
}

/// Longer conversations come out as the form says.
Status check(const ChatForm& form, const Tokenizer& tokenizer) {
  const std::vector<std::string> words = {"How are you?", "Fine, thanks.", "2 < 3, isn't it?",
                                          "It is: \"yes\".", "And {x} & y?"};
  for (const std::size_t count : {1, 3, 5}) {
    const std::vector<std::string> some(words.begin(), words.begin() + std::ptrdiff_t(count));
    const std::string system = "Answer in one word.";
    NIBBLE_TRY(const std::string plain, rendered(tokenizer, nullptr, some));
    bool same = plain == form.render(nullptr, some);
    if (form.begin_system) {
      NIBBLE_TRY(const std::string with, rendered(tokenizer, &system, some));
      same &= with == form.render(&system, some);
    }
    if (!same)
      return fail(ErrorCode::unsupported,
                  "what it puts around a message depends on more than its role and its neighbours");
  }
  return {};
}

}  // namespace

std::string ChatForm::render(const std::string* system,
                             const std::vector<std::string>& messages) const {
  std::string out = system && begin_system ? *begin_system + *system + after_system : begin;
  for (std::size_t i = 0; i < messages.size(); ++i) {
    const bool user = i % 2 == 0, last = i + 1 == messages.size();
    out += messages[i] + (!user ? after_answer : last ? before_answer : before_answered);
  }
  return out;
}

Result<ChatForm> chat_form_of(const Tokenizer& tokenizer) {
  if (tokenizer.chat_template().find("strftime_now") != std::string::npos)
    return fail(ErrorCode::unsupported, "it writes the date of the day");
  NIBBLE_TRY(const std::string one, rendered(tokenizer, nullptr, {kUser}));
  NIBBLE_TRY(const auto first, pieces(one, {kUser}));
  NIBBLE_TRY(const std::string two, rendered(tokenizer, nullptr, {kUser, kAnswer, kNext}));
  NIBBLE_TRY(const auto parts, pieces(two, {kUser, kAnswer, kNext}));
  ChatForm form{.begin = first[0],
                .begin_system = {},
                .after_system = {},
                .before_answer = first[1],
                .before_answered = parts[1],
                .after_answer = parts[2]};
  if (const auto with = rendered(tokenizer, &kSystem, {kUser})) {
    NIBBLE_TRY(const auto system, pieces(*with, {kSystem, kUser}));
    form.begin_system = system[0], form.after_system = system[1];
  }
  NIBBLE_DO(check(form, tokenizer));
  return form;
}

}  // namespace nibble
