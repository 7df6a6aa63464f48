#include "serve/models.h"

#include <sys/stat.h>

#include <algorithm>
#include <thread>

#include "base/human.h"
#include "graph/memory.h"
#include "graph/speculate.h"
#include "kernel/caches.h"

namespace nibble {
namespace {

Precision precision_of(const ModelsOptions& options) {
  return options.exact ? Precision::exact : Precision::fast;
}

std::uint32_t context_of(const ModelConfig& config, const ModelsOptions& options) {
  return std::min(options.context, config.context);
}

/// Of the caches when all sequences are as long as they may be.
std::uint64_t cache_bytes(const ModelConfig& config, const CacheOps& cache,
                          const ModelsOptions& options) {
  const auto sequences = std::size_t(options.scheduler.parallel);
  return KvPagePool::pages_for(context_of(config, options), sequences) *
         KvPagePool::page_bytes(config, cache);
}

std::int64_t modified(const std::string& path) {
  struct stat about {};
  return ::stat(path.c_str(), &about) == 0 ? std::int64_t(about.st_mtime) : 0;
}

}  // namespace

Result<std::shared_ptr<ServedModel>> ServedModel::load(const std::string& name,
                                                       const std::string& path,
                                                       const ModelsOptions& options,
                                                       Progress& progress) {
  NIBBLE_TRY(const Model model, Model::open(path));
  NIBBLE_TRY_IN(path, Tokenizer tokenizer, Tokenizer::open(model.source()));
  const RuntimeOptions runtime_options = {.threads = options.threads,
                                          .precision = precision_of(options),
                                          .cache = options.cache,
                                          .packed = options.packed};
  NIBBLE_TRY_IN(path, auto runtime, Runtime::load(model, runtime_options, progress));
  if (options.scheduler.lookup) NIBBLE_DO_IN(path, check_speculation(*runtime));
  std::shared_ptr<ServedModel> out(new ServedModel(name, std::move(tokenizer), std::move(runtime)));
  out->context_ = context_of(out->config(), options);
  out->bytes_ =
      out->runtime_->weight_bytes() + cache_bytes(out->config(), out->runtime_->cache(), options);
  SchedulerOptions scheduler = options.scheduler;
  scheduler.context = out->context_;
  out->scheduler_ = std::make_unique<Scheduler>(*out->runtime_, out->tokenizer_, scheduler);
  return out;
}

Result<const GrammarCompiler*> ServedModel::grammar_compiler() const {
  const std::lock_guard lock(mutex_);
  if (!grammar_compiler_) {
    NIBBLE_TRY(grammar_compiler_, tokenizer_.grammar_compiler(config().vocab));
  }
  return &*grammar_compiler_;
}

Status ModelTable::add(const std::string& name, const std::string& path) {
  NIBBLE_TRY(const Model model, Model::open(path));
  NIBBLE_TRY_IN(path, const Tokenizer tokenizer, Tokenizer::open(model.source()));
  NIBBLE_TRY(const CacheOps* cache, find_cache(options_.cache, precision_of(options_)));
  ModelEntry entry{.name = name, .path = path};
  std::map<std::string, std::uint64_t> formats;
  for (const TensorInfo& tensor : model.tensors()) {
    entry.file_bytes += tensor.bytes;
    entry.parameters += tensor.elements();
    formats[std::string(tensor.format->id())] += tensor.elements();
  }
  const auto by_size = [](const auto& a, const auto& b) { return a.second < b.second; };
  entry.format = std::max_element(formats.begin(), formats.end(), by_size)->first;
  entry.needed = weight_bytes(model.tensors()) + cache_bytes(model.config(), *cache, options_);
  entry.architecture = model.config().arch;
  entry.context = model.config().context, entry.hidden = model.config().hidden;
  entry.created = modified(path);
  entry.chat_template = tokenizer.chat_template();
  const std::lock_guard lock(mutex_);
  if (!entries_.emplace(name, std::move(entry)).second)
    return fail(ErrorCode::invalid, "two models have the name '{}': give one with --name", name);
  order_.push_back(name);
  return {};
}

/// Unloads models that nobody uses, the longest unused first, until there is room.
Status ModelTable::make_room(std::uint64_t bytes) {
  if (options_.memory == 0) return {};
  for (;;) {
    std::uint64_t used = 0;
    ModelEntry* oldest = nullptr;
    for (auto& [name, entry] : entries_) {
      if (!entry.loaded) continue;
      used += entry.loaded->bytes();
      const bool unused = entry.loaded.use_count() == 1 && entry.loaded->scheduler().idle();
      if (unused && (!oldest || entry.used < oldest->used)) oldest = &entry;
    }
    if (used + bytes <= options_.memory) return {};
    if (used == 0)
      return fail(ErrorCode::invalid, "the model needs about {}, and {} are allowed",
                  human_bytes(bytes), human_bytes(options_.memory));
    if (!oldest) return fail(ErrorCode::io, "the memory for models is in use; try again later");
    oldest->loaded.reset();
  }
}

/// Null: it is there, but not loaded.
Result<std::shared_ptr<ServedModel>> ModelTable::loaded(const std::string& name) {
  const std::lock_guard lock(mutex_);
  const auto found = entries_.find(name);
  if (found == entries_.end()) return fail(ErrorCode::invalid, "there is no model of that name");
  found->second.used = std::chrono::steady_clock::now();
  return found->second.loaded;
}

/// Waits a moment where all is in use: an answer that has just ended still holds its model.
Status ModelTable::wait_for_room(std::uint64_t bytes) {
  for (int tries = 20;; --tries) {
    {
      const std::lock_guard lock(mutex_);
      const auto room = make_room(bytes);
      if (room || room.error().code() != ErrorCode::io || tries == 0) return room;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
}

Result<std::shared_ptr<ServedModel>> ModelTable::get(const std::string& name) {
  NIBBLE_TRY(auto model, loaded(name));
  if (model) return model;
  // One at a time, while requests to models that are loaded go on.
  const std::lock_guard one(loading_);
  NIBBLE_TRY(model, loaded(name));
  if (model) return model;
  ModelEntry& entry = entries_.at(name);
  NIBBLE_DO(wait_for_room(entry.needed));
  auto made = ServedModel::load(entry.name, entry.path, options_, progress_);
  if (!made) {  // the reason names files, which clients are not to know
    progress_.note(made.error().message());
    return fail(ErrorCode::corrupt, "the model '{}' cannot be loaded", name);
  }
  const std::lock_guard lock(mutex_);
  entry.loaded = std::move(*made);
  return entry.loaded;
}

Status ModelTable::unload(const std::string& name) {
  const std::lock_guard lock(mutex_);
  const auto found = entries_.find(name);
  if (found == entries_.end()) return fail(ErrorCode::invalid, "there is no model of that name");
  found->second.loaded.reset();
  return {};
}

std::vector<ModelEntry> ModelTable::entries() const {
  const std::lock_guard lock(mutex_);
  std::vector<ModelEntry> out;
  for (const std::string& name : order_) out.push_back(entries_.at(name));
  return out;
}

bool ModelTable::idle() const {
  for (const ModelEntry& entry : entries())
    if (entry.loaded && !entry.loaded->scheduler().idle()) return false;
  return true;
}

}  // namespace nibble
