// Keys and values of the tokens of one sequence, and attention over those of several.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "arch/graph.h"
#include "base/result.h"
#include "base/threads.h"
#include "graph/pages.h"

namespace nibble {

/// The pages of one sequence.
class KvCache {
 public:
  explicit KvCache(std::shared_ptr<KvPagePool> pool) : pool_(std::move(pool)) {}
  ~KvCache() { truncate(0); }
  KvCache(const KvCache&) = delete;
  KvCache& operator=(const KvCache&) = delete;

  const KvPagePool& pool() const { return *pool_; }
  /// Makes positions [position, position + count) writable. Error: all pages are in use.
  Status reserve(std::uint32_t position, std::int64_t count);
  /// Makes the positions [0, positions) writable and zero.
  Status blank(std::uint32_t positions);
  void truncate(std::uint32_t positions);  // releases the pages behind
  /// Takes the published pages of a sequence that begins with `tokens`; the positions they hold.
  std::uint32_t reuse(std::span<const std::uint32_t> tokens);
  /// Publishes the pages that `tokens`, the whole sequence, fill.
  void publish(std::span<const std::uint32_t> tokens);

  std::uint8_t* page(std::int64_t index) { return pages_[std::size_t(index)]->bytes.get(); }
  const std::uint8_t* const* bytes() const { return bytes_.data(); }

 private:
  void put(std::size_t index, KvPage* page);

  std::shared_ptr<KvPagePool> pool_;
  std::vector<KvPage*> pages_;
  std::vector<const std::uint8_t*> bytes_;  // of pages_
  std::size_t published_ = 0;               // the first pages, which must not be written
};

/// Rows [begin, begin + count) of a batch: tokens that continue a sequence at `position`.
struct Portion {
  KvCache* cache;
  std::uint32_t position;
  std::int64_t begin, count;
};

/// Writes keys and values, [rows][kv_heads * head_dim], to the places reserved for them.
void append_to_caches(const Node& node, std::span<const Portion> portions, const float* keys,
                      const float* values, ThreadPool& pool);
/// An attend node after append_to_caches(): q and out are [rows][heads * head_dim].
void attend_to_caches(const Node& node, std::span<const Portion> portions, int group,
                      const float* q, float* out, ThreadPool& pool);

}  // namespace nibble
