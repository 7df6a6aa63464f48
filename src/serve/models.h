// The models of a server: loaded when they are asked for, and unloaded when memory is short.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "arch/arch.h"
#include "nibble/progress.h"
#include "serve/scheduler.h"

namespace nibble {

struct ModelsOptions {
  int threads = 0;
  bool exact = false;
  std::string cache = "";        // as RuntimeOptions::cache
  std::string packed = "";       // as RuntimeOptions::packed
  std::uint32_t context = 4096;  // at most, and at most what the model was made for
  std::uint64_t memory = 0;      // bytes for weights and caches of all loaded models; 0: no limit
  SchedulerOptions scheduler;
};

/// A model that is loaded.
class ServedModel {
 public:
  static Result<std::shared_ptr<ServedModel>> load(const std::string& name, const std::string& path,
                                                   const ModelsOptions& options,
                                                   Progress& progress);

  const std::string& name() const { return name_; }
  const Tokenizer& tokenizer() const { return tokenizer_; }
  const ModelConfig& config() const { return runtime_->graph().config; }
  std::uint32_t context() const { return context_; }
  std::uint64_t bytes() const { return bytes_; }  // weights, and caches when they are full
  /// Made when it is asked for first.
  Result<const GrammarCompiler*> grammar_compiler() const;
  Scheduler& scheduler() { return *scheduler_; }
  const Scheduler& scheduler() const { return *scheduler_; }

 private:
  ServedModel(std::string name, Tokenizer tokenizer, std::unique_ptr<Runtime> runtime)
      : name_(std::move(name)), tokenizer_(std::move(tokenizer)), runtime_(std::move(runtime)) {}

  std::string name_;
  Tokenizer tokenizer_;
  std::unique_ptr<Runtime> runtime_;
  std::uint32_t context_ = 0;
  std::uint64_t bytes_ = 0;
  mutable std::mutex mutex_;  // of what follows
  mutable std::optional<GrammarCompiler> grammar_compiler_;
  std::unique_ptr<Scheduler> scheduler_;  // ends before what it refers to
};

/// What is known of a model whether it is loaded or not.
struct ModelEntry {
  std::string name, path;
  std::uint64_t file_bytes = 0;
  std::uint64_t needed = 0;  // bytes of memory, about: weights, and caches when they are full
  std::uint64_t parameters = 0;
  std::string architecture = {};
  std::string format = {};                // of most weights
  std::uint32_t context = 0, hidden = 0;  // as the model was made
  std::int64_t created = 0;               // seconds since 1970 of the file
  std::string chat_template = {};         // as the model has it, or empty
  std::shared_ptr<ServedModel> loaded = {};
  std::chrono::steady_clock::time_point used = {};
};

/// Safe to use from many threads.
class ModelTable {
 public:
  ModelTable(const ModelsOptions& options, Progress& progress)
      : options_(options), progress_(progress) {}

  /// Reads what the file says of itself. Errors: it cannot be read, a name that is taken.
  Status add(const std::string& name, const std::string& path);
  /// The model, loaded. Errors: invalid: there is none of that name; io: its memory is not free;
  /// corrupt: it cannot be loaded (a note says why).
  Result<std::shared_ptr<ServedModel>> get(const std::string& name);
  Status unload(const std::string& name);
  std::vector<ModelEntry> entries() const;
  const std::string& first() const { return order_.front(); }
  bool idle() const;
  int threads() const { return options_.threads; }

 private:
  Result<std::shared_ptr<ServedModel>> loaded(const std::string& name);
  Status make_room(std::uint64_t bytes);
  Status wait_for_room(std::uint64_t bytes);

  const ModelsOptions options_;
  Progress& progress_;
  std::mutex loading_;        // taken before mutex_
  mutable std::mutex mutex_;  // of what is loaded; all else is fixed after add()
  std::map<std::string, ModelEntry> entries_;
  std::vector<std::string> order_;
};

}  // namespace nibble
