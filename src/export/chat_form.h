// What a chat template puts around messages, found out by rendering it.
#pragma once

#include <optional>
#include <string>

#include "base/result.h"
#include "text/tokenizer.h"

namespace nibble {

/// Templates that put fixed texts around the messages, as nearly all do:
///   [system] begin_system SYSTEM after_system USER before_answer ANSWER after_answer USER ...
/// and `begin` in place of the first two where there is no system message.
struct ChatForm {
  std::string begin;                        // before the first user's message
  std::optional<std::string> begin_system;  // none: the template takes no system message
  std::string after_system;
  std::string before_answer;    // what the model continues
  std::string before_answered;  // in its place where the answer follows
  std::string after_answer;     // between an answer and the next user's message

  /// What a template of this form makes of messages that end with a user's. `messages`: user,
  /// assistant, user, ...
  std::string render(const std::string* system, const std::vector<std::string>& messages) const;
};

/// Errors: unsupported, with the reason: the template does more than that.
Result<ChatForm> chat_form_of(const Tokenizer& tokenizer);

}  // namespace nibble
