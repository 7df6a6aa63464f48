#include "serve/scheduler.h"

#include <algorithm>
#include <list>
#include <thread>

#include "eval/metrics.h"
#include "graph/speculate.h"
#include "serve/rate.h"
#include "serve/stop.h"

namespace nibble {
namespace {

// A step decodes one token of every sequence that is ready, and fills up with prompts: in portions,
// so that no prompt keeps the others waiting, and few tokens while others are being written.
constexpr std::size_t kPromptPortion = 128, kPromptTokens = 256;
// So many tokens cost about as much as one: what the sequences that write may guess, all together.
constexpr std::size_t kGuessTokens = 16;
constexpr const char* kNotFinite = "the model's output is not finite";

/// One choice of a job.
struct ServedSequence {
  ServedSequence(std::shared_ptr<GenerationJob> owner, int index, Runtime& runtime,
                 const Tokenizer& tokenizer, std::uint32_t context,
                 std::shared_ptr<KvPagePool> pages)
      : job(std::move(owner)),
        choice(index),
        session(runtime, context, std::move(pages)),
        sampler(seeded(job->request.sampler, index)),
        stream(tokenizer),
        stop(job->request.stop),
        history(job->request.prompt) {
    const auto& prompt = job->request.prompt;
    for (const Token token : prompt) sampler.accept(token);
    const std::size_t computed = std::max(job->request.scored, 1u);
    reused = session.reuse(std::span(prompt).first(prompt.size() - computed));
  }

  static SamplerOptions seeded(SamplerOptions options, int index) {
    options.seed += std::uint64_t(index);
    return options;
  }
  const std::vector<Token>& prompt() const { return job->request.prompt; }
  bool in_prompt() const { return session.position() < prompt().size(); }
  /// The part of the prompt that comes next: up to the tokens that are scored, or those.
  std::span<const Token> unread() const {
    const auto rest = std::span(prompt()).subspan(session.position());
    const std::size_t scored = job->request.scored;
    return scored > 0 && rest.size() > scored ? rest.first(rest.size() - scored) : rest;
  }
  Logits wanted(std::size_t tokens) const {
    const std::size_t end = session.position() + tokens, scored = job->request.scored;
    if (scored > 0) return end + scored > prompt().size() ? Logits::all : Logits::none;
    if (!in_prompt()) return Logits::all;
    return end >= prompt().size() ? Logits::last : Logits::none;
  }
  /// Its last token, and at most `most` guesses of what follows.
  std::span<const Token> proposal(std::size_t most) {
    const std::size_t room = session.context() - session.position() - 1;
    const std::size_t wanted = job->request.limit - generated - 1;
    const auto guesses =
        LookupDrafter::find(history, std::min({length.next(), most, room, wanted}));
    next = {history.back()};
    next.insert(next.end(), guesses.begin(), guesses.end());
    return next;
  }

  std::shared_ptr<GenerationJob> job;
  int choice;
  Session session;
  Sampler sampler;
  TextStream stream;
  StopMatcher stop;
  std::optional<Matcher> matcher = {};  // of the grammar, if there is one
  std::uint32_t reused = 0, generated = 0;
  std::vector<Token> history;    // the prompt and what was generated
  std::vector<Token> next = {};  // its last token and guesses, in the present step
  DraftLength length = {};
  std::size_t portion = 0;     // tokens in the present step
  std::size_t part = 0;        // of the batch
  GenerationEvent event = {};  // made in the present step
  bool done = false;
};

}  // namespace

struct Scheduler::State {
  State(Runtime& r, const Tokenizer& t, const SchedulerOptions& o)
      : runtime(r),
        tokenizer(t),
        options(o),
        batch(r),
        pages(std::make_shared<KvPagePool>(
            r.graph().config, r.cache(),
            KvPagePool::pages_for(o.context, std::size_t(o.parallel)))) {}

  struct Waiting {
    std::shared_ptr<GenerationJob> job;
    int choice;
  };

  Runtime& runtime;
  const Tokenizer& tokenizer;
  const SchedulerOptions options;
  Batch batch;
  std::shared_ptr<KvPagePool> pages;  // enough for `parallel` whole contexts
  std::list<ServedSequence> active;   // of the scheduler's thread only
  std::size_t turn = 0;               // whose prompt is next

  mutable std::mutex mutex;  // of what follows
  std::condition_variable work;
  std::deque<Waiting> waiting;
  SchedulerCounts counts;
  TokenRate generated, read;
  bool ending = false;
  std::thread thread;

  void run();
  bool wait_for_work();
  void admit();
  void begin_grammar(ServedSequence& sequence) const;
  void drop_cancelled();
  void step();
  std::vector<Batch::Part> plan();
  Result<Token> pick(ServedSequence& sequence, std::span<const float> logits, bool& complete) const;
  void advance(ServedSequence& sequence);
  bool take(ServedSequence& sequence, std::span<const float> logits, std::size_t held) const;
  void embed(ServedSequence& sequence);
  void keep_logits(ServedSequence& sequence);
  void score(ServedSequence& sequence, std::span<const float> logits, Token token) const;
  void finish(ServedSequence& sequence, FinishReason reason, const std::string& error = "") const;
  void deliver();
};

/// Sets an idle scheduler to sleep. False: it is to end.
bool Scheduler::State::wait_for_work() {
  std::unique_lock lock(mutex);
  work.wait(lock, [&] { return ending || !waiting.empty() || !active.empty(); });
  return !ending;
}

void Scheduler::State::admit() {
  while (active.size() < std::size_t(options.parallel)) {
    std::unique_lock lock(mutex);
    if (waiting.empty()) break;
    // The other choices of a request wait for its prompt, which they will share.
    const auto& [job, choice] = waiting.front();
    const bool shares = !active.empty() && active.back().job == job && active.back().in_prompt();
    if (shares) break;
    const Waiting next = std::move(waiting.front());
    waiting.pop_front();
    if (next.job->cancelled()) continue;
    ++counts.active;
    lock.unlock();
    active.emplace_back(next.job, next.choice, runtime, tokenizer, options.context, pages);
    begin_grammar(active.back());
    lock.lock();
    counts.reused_tokens += active.back().reused;
  }
}

void Scheduler::State::begin_grammar(ServedSequence& s) const {
  if (!s.job->request.grammar) return;
  if (auto matcher = s.job->request.grammar->split())
    s.matcher = std::move(*matcher);
  else
    finish(s, FinishReason::failed, matcher.error().message());
}

void Scheduler::State::drop_cancelled() {
  const auto now = GenerationJob::Clock::now();
  for (ServedSequence& s : active) {
    if (s.job->cancelled())
      finish(s, FinishReason::failed, "cancelled");
    else if (now > s.job->deadline)
      finish(s, FinishReason::failed, "the time for a request is over");
  }
  deliver();
}

/// One portion of every sequence that takes part in the next step.
std::vector<Batch::Part> Scheduler::State::plan() {
  std::vector<Batch::Part> parts;
  const auto add = [&](ServedSequence& s, std::span<const Token> tokens) {
    s.part = parts.size(), s.portion = tokens.size();
    parts.push_back({&s.session, tokens, s.wanted(tokens.size())});
  };
  std::vector<ServedSequence*> prompts, writers;
  for (ServedSequence& s : active) {
    s.portion = 0;
    if (!s.job->request.embed) (s.in_prompt() ? prompts : writers).push_back(&s);
  }
  for (ServedSequence* s : writers)
    add(*s, s->proposal(options.lookup ? kGuessTokens / writers.size() : 0));
  const std::size_t budget = parts.empty() ? Batch::kTokens : kPromptTokens;
  std::size_t used = 0;
  for (std::size_t i = 0; i < prompts.size() && used < budget; ++i) {
    ServedSequence& s = *prompts[(turn + i) % prompts.size()];
    const auto rest = s.unread();
    const std::size_t most = prompts.size() == 1 ? budget : kPromptPortion;
    const std::size_t count = std::min({rest.size(), most, budget - used});
    add(s, rest.first(count));
    used += count;
  }
  ++turn;
  return parts;
}

void Scheduler::State::score(ServedSequence& s, std::span<const float> logits, Token token) const {
  const double sum = log_sum_exp(logits);
  const auto scored = [&](Token t) {
    return ScoredToken{tokenizer.token_bytes(t), double(logits[t]) - sum};
  };
  TokenScores scores{.token = scored(token), .top = {}};
  std::vector<Token> order(logits.size());
  for (Token t = 0; t < order.size(); ++t) order[t] = t;
  const auto count = std::min(std::size_t(*s.job->request.top_logprobs), order.size());
  std::partial_sort(
      order.begin(), order.begin() + std::ptrdiff_t(count), order.end(),
      [&](Token a, Token b) { return logits[a] > logits[b] || (logits[a] == logits[b] && a < b); });
  for (std::size_t i = 0; i < count; ++i) scores.top.push_back(scored(order[i]));
  s.event.scores.push_back(std::move(scores));
}

void Scheduler::State::finish(ServedSequence& s, FinishReason reason,
                              const std::string& error) const {
  if (s.done) return;
  if (reason != FinishReason::failed) {
    if (!s.stop.found()) s.event.text += s.stop.push(s.stream.finish());
    s.event.text += s.stop.finish();
  }
  s.event.finish = reason, s.event.error = error;
  s.done = true;
}

/// The next token, as the grammar allows it. `complete`: none can follow.
Result<Token> Scheduler::State::pick(ServedSequence& s, std::span<const float> logits,
                                     bool& complete) const {
  if (!s.matcher) return s.sampler.pick(logits);
  NIBBLE_TRY(const auto allowed, s.matcher->allowed());
  const Token token = s.sampler.pick(logits, allowed);
  if (!tokenizer.ends_generation(token)) {
    NIBBLE_TRY(complete, s.matcher->accept(token));
  }
  return token;
}

/// Goes on from the logits of the step: by one token, and by the guesses that were right. On any
/// thread.
void Scheduler::State::advance(ServedSequence& s) {
  const auto logits = batch.logits(s.part);
  if (!logits) return finish(s, FinishReason::failed, kNotFinite);
  const std::vector<Token> ran = std::exchange(s.next, {});  // empty: the end of the prompt
  const auto guesses = std::span(ran).last(ran.empty() ? 0 : ran.size() - 1);
  const std::size_t vocab = logits->size() / (guesses.size() + 1);
  const std::size_t held = s.session.position() - guesses.size();
  std::size_t right = 0;
  while (take(s, logits->subspan(right * vocab, vocab), held + right) && right < guesses.size() &&
         s.history.back() == guesses[right])
    ++right;
  s.session.truncate(std::uint32_t(held + right));
  s.length.observe(guesses.size(), right);
}

/// Picks a token behind `held` others. Whether another may follow.
bool Scheduler::State::take(ServedSequence& s, std::span<const float> logits,
                            std::size_t held) const {
  bool complete = false;
  const auto token = pick(s, logits, complete);
  if (!token)
    finish(s, FinishReason::failed, token.error().message());
  else if (tokenizer.ends_generation(*token))
    finish(s, FinishReason::stop);
  if (s.done) return false;
  ++s.generated;
  s.history.push_back(*token);
  if (s.job->request.top_logprobs) score(s, logits, *token);
  s.event.text += s.stop.push(s.stream.push(*token));
  if (s.stop.found() || complete)
    finish(s, FinishReason::stop);
  else if (s.generated >= s.job->request.limit || held >= s.session.context())
    finish(s, FinishReason::length);
  return !s.done;
}

void Scheduler::State::embed(ServedSequence& s) {
  s.session.truncate(0);
  auto mean = s.session.embed(s.prompt());
  if (!mean) return finish(s, FinishReason::failed, kNotFinite);
  s.event.embedding = std::move(*mean);
  finish(s, FinishReason::stop);
}

void Scheduler::State::keep_logits(ServedSequence& s) {
  const auto logits = batch.logits(s.part);
  if (!logits) return finish(s, FinishReason::failed, kNotFinite);
  s.event.logits.insert(s.event.logits.end(), logits->begin(), logits->end());
  if (!s.in_prompt()) finish(s, FinishReason::stop);
}

void Scheduler::State::step() {
  const auto parts = plan();
  if (!parts.empty()) {
    if (const auto ran = batch.forward(parts); !ran) {
      for (ServedSequence& s : active)
        if (s.portion > 0) finish(s, FinishReason::failed, ran.error().message());
    }
  }
  std::vector<ServedSequence*> ready;
  std::uint64_t prompt_tokens = 0, before = 0, after = 0;
  for (ServedSequence& s : active) {
    if (s.job->request.embed)
      embed(s), prompt_tokens += s.prompt().size();
    else if (s.portion > 0 && !s.done && s.job->request.scored > 0)
      keep_logits(s);
    else if (s.portion > 0 && !s.done && !s.in_prompt())
      ready.push_back(&s);
    if (s.generated == 0) prompt_tokens += s.portion;
    before += s.generated;
  }
  runtime.pool().run(std::int64_t(ready.size()), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) advance(*ready[std::size_t(i)]);
  });
  for (const ServedSequence& s : active) after += s.generated;
  const std::lock_guard lock(mutex);
  counts.generated_tokens += after - before;
  counts.prompt_tokens += prompt_tokens;
  generated.add(after - before), read.add(prompt_tokens);
  ++counts.steps;
}

/// Hands out what the step made, and takes leave of sequences that are done.
void Scheduler::State::deliver() {
  std::size_t left = 0, cancelled = 0;
  for (auto s = active.begin(); s != active.end();) {
    GenerationEvent& event = s->event;
    if (event.finish || !event.text.empty() || !event.scores.empty()) {
      event.choice = s->choice, event.tokens = s->generated, event.reused = s->reused;
      s->job->push(std::exchange(event, {}));
    }
    if (!s->done) {
      ++s;
      continue;
    }
    cancelled += s->job->cancelled();
    s = active.erase(s);
    ++left;
  }
  const std::lock_guard lock(mutex);
  counts.active -= left;
  counts.cancelled += cancelled;
  counts.pages = pages->used();
}

void Scheduler::State::run() {
  while (wait_for_work()) {
    drop_cancelled();
    admit();
    step();
    deliver();
  }
  for (ServedSequence& s : active) finish(s, FinishReason::failed, "the server ends");
  deliver();
}

Scheduler::Scheduler(Runtime& runtime, const Tokenizer& tokenizer, const SchedulerOptions& options)
    : state_(std::make_unique<State>(runtime, tokenizer, options)) {
  state_->thread = std::thread([this] { state_->run(); });
}

Scheduler::~Scheduler() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->ending = true;
    for (const auto& [job, choice] : state_->waiting)
      job->push({.choice = choice, .finish = FinishReason::failed, .error = "the server ends"});
    state_->waiting.clear();
    state_->work.notify_one();
  }
  state_->thread.join();
}

bool Scheduler::submit(std::shared_ptr<GenerationJob> job) {
  const std::lock_guard lock(state_->mutex);
  std::erase_if(state_->waiting, [](const auto& each) { return each.job->cancelled(); });
  const auto free = std::size_t(state_->options.parallel) -
                    std::min(std::size_t(state_->options.parallel), state_->counts.active);
  const auto choices = std::size_t(job->request.choices);
  if (state_->ending || state_->waiting.size() + choices > state_->options.queue + free) {
    ++state_->counts.refused;
    return false;
  }
  ++state_->counts.requests;
  for (int i = 0; i < job->request.choices; ++i) state_->waiting.push_back({job, i});
  state_->work.notify_one();
  return true;
}

bool Scheduler::idle() const {
  const std::lock_guard lock(state_->mutex);
  return state_->waiting.empty() && state_->counts.active == 0;
}

SchedulerCounts Scheduler::counts() const {
  const std::lock_guard lock(state_->mutex);
  SchedulerCounts out = state_->counts;
  out.waiting = state_->waiting.size();
  out.prompt_rate = state_->read.per_second(), out.generated_rate = state_->generated.per_second();
  return out;
}

}  // namespace nibble
