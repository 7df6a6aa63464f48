#include "graph/pages.h"

#include <cstring>

#include "base/result.h"

namespace nibble {

std::size_t KvPagePool::page_bytes(const ModelConfig& config, const CacheOps& cache) {
  return std::size_t(config.layers) * config.kv_heads * 2 *
         std::size_t(cache_part_bytes(cache, config.head_dim));
}

KvPagePool::KvPagePool(const ModelConfig& config, const CacheOps& cache, std::size_t most)
    : ops_(cache),
      head_dim_(config.head_dim),
      heads_(config.kv_heads),
      part_(cache_part_bytes(cache, head_dim_)),
      page_bytes_(page_bytes(config, cache)),
      most_(most) {}

KvPagePool::~KvPagePool() = default;

std::size_t KvPagePool::Hash::operator()(const KvPage* page) const {
  std::uint64_t hash = page->before;
  for (const std::uint32_t token : page->tokens) {
    hash = (hash ^ token) * 0x9e3779b97f4a7c15;
    hash ^= hash >> 32;
  }
  return std::size_t(hash);
}

KvPage* KvPagePool::take() {
  KvPage* page = nullptr;
  if (!free_.empty()) {
    page = free_.back();
    free_.pop_back();
  } else if (all_.size() < most_) {
    all_.push_back(std::make_unique<KvPage>());
    page = all_.back().get();
    page->bytes.reset(new std::uint8_t[page_bytes_]);  // what is never written takes no memory
  } else if (!idle_.empty()) {
    page = idle_.front();
    idle_.pop_front();
    forget(page);
  }
  if (page) page->users = 1;
  return page;
}

void KvPagePool::release(KvPage* page) {
  if (--page->users > 0) return;
  if (page->serial == 0)
    free_.push_back(page);
  else
    page->idle = idle_.insert(idle_.end(), page);
}

bool KvPagePool::publish(KvPage* page, std::uint64_t before, const KvPage::Tokens& tokens) {
  NIBBLE_CHECK(page->serial == 0);
  page->before = before, page->tokens = tokens;
  if (!published_.emplace(page, page).second) return false;
  page->serial = ++last_serial_;
  return true;
}

KvPage* KvPagePool::find(std::uint64_t before, const KvPage::Tokens& tokens) {
  KvPage wanted;
  wanted.before = before, wanted.tokens = tokens;
  const auto found = published_.find(&wanted);
  if (found == published_.end()) return nullptr;
  KvPage* page = found->second;
  if (page->users++ == 0) idle_.erase(page->idle);
  return page;
}

KvPage* KvPagePool::copy(KvPage* page) {
  KvPage* fresh = take();
  if (!fresh) return nullptr;
  std::memcpy(fresh->bytes.get(), page->bytes.get(), page_bytes_);
  release(page);
  return fresh;
}

void KvPagePool::forget(KvPage* page) {
  published_.erase(page);
  page->serial = 0;
}

}  // namespace nibble
