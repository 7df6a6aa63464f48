// What the two APIs of the server share: checked fields, prompts, following a job.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "serve/http.h"
#include "serve/models.h"

namespace nibble {

struct ApiLimits {
  int choices = 16, stops = 16, top_logprobs = 20;
  std::size_t stop_bytes = 256;
  std::chrono::seconds request{600};  // from its arrival to its end
};

/// A number from `least` to `most`; `otherwise` where it is missing or null.
Result<double> number_field(const Json& body, const char* field, double otherwise, double least,
                            double most);
Result<std::int64_t> whole_field(const Json& body, const char* field, std::int64_t otherwise,
                                 std::int64_t least, std::int64_t most);
/// A string or a list of strings.
Result<std::vector<std::string>> strings_field(const Json& body, const char* field,
                                               const ApiLimits& limits);

/// Chat messages as templates want them: content is one string, the arguments of tool calls are
/// objects. Errors name the message.
Result<Json> chat_messages(const Json& body);
bool has_tools(const Json& body);
/// Makes the answer follow a JSON schema, an object. Its fields come in the schema's order.
Status follow_schema(const ServedModel& model, OrderedJson schema, GenerationRequest& request);
/// Makes the answer a call of the tool of that name; empty: of any of the tools, a list.
Status follow_tools(const ServedModel& model, const OrderedJson& tools, const std::string& name,
                    GenerationRequest& request);
/// The tokens of a chat, with what is to be answered open at the end.
Result<std::vector<Token>> chat_prompt(const ServedModel& model, const Json& messages,
                                       const Json& variables);
Result<std::vector<Token>> text_prompt(const ServedModel& model, const std::string& text);
/// A string, a list of one string, or a list of token ids.
Result<std::vector<Token>> token_prompt(const Json& body, const char* field,
                                        const ServedModel& model);
/// What to embed: one of these, or a list of them.
Result<std::vector<std::vector<Token>>> embedding_inputs(const Json& body, const char* field,
                                                         const ServedModel& model);
/// Sets the limit of tokens (0: none was given) to what the context holds.
Status fit_context(const ServedModel& model, GenerationRequest& request);

/// A job that one client follows. It is cancelled when this is destroyed.
class JobStream {
 public:
  JobStream(std::shared_ptr<ServedModel> model, std::shared_ptr<GenerationJob> job,
            std::function<bool()> is_gone)
      : model_(std::move(model)),
        job_(std::move(job)),
        is_gone_(std::move(is_gone)),
        open_(job_->request.choices) {}
  ~JobStream() { job_->cancel(); }
  JobStream(const JobStream&) = delete;
  JobStream& operator=(const JobStream&) = delete;

  /// The next event; none when all choices have finished, or the client is gone.
  std::optional<GenerationEvent> next();
  const ServedModel& model() const { return *model_; }
  const GenerationRequest& request() const { return job_->request; }
  const GenerationJob& job() const { return *job_; }

 private:
  std::shared_ptr<ServedModel> model_;
  std::shared_ptr<GenerationJob> job_;
  std::function<bool()> is_gone_;
  int open_;
};

/// All of a choice.
struct ChoiceResult {
  std::string text;
  std::vector<TokenScores> scores;
  FinishReason finish = FinishReason::failed;
  std::uint32_t tokens = 0, reused = 0;  // generated; of the prompt, found in the cache
  std::vector<float> embedding;
  std::vector<float> logits;  // [scored][vocab]
};

/// Hands a request to the model. Error (io): too many wait already.
Result<std::shared_ptr<JobStream>> start_job(std::shared_ptr<ServedModel> model,
                                             GenerationRequest request, const ApiLimits& limits,
                                             const ServerRequest& http);
/// Waits for all choices. Errors: a choice failed; cancelled: the client is gone.
Result<std::vector<ChoiceResult>> collect(JobStream& stream);

struct Embeddings {
  std::vector<std::vector<float>> vectors;  // of length 1
  std::size_t tokens = 0;                   // of all texts
};

/// Errors as of start_job() and collect().
Result<Embeddings> embed(const std::shared_ptr<ServedModel>& model,
                         const std::vector<std::vector<Token>>& texts, const ApiLimits& limits,
                         const ServerRequest& http);
std::string base64(std::string_view bytes);
/// Little-endian floats in base64.
std::string base64_floats(const std::vector<float>& values);
/// The text with bytes that are not UTF-8 replaced.
std::string valid_utf8(const std::string& text);

ServerReply json_reply(const Json& document);
/// The status that an error stands for, and its message.
ServerReply reply_to(const Error& error);
std::string dump(const Json& document);  // bytes that are not UTF-8 are replaced
std::string random_id(std::string_view prefix);

}  // namespace nibble
