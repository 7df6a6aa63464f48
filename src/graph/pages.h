// Memory for keys and values, in pages that sequences can share.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <list>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "arch/config.h"
#include "kernel/ops.h"

namespace nibble {

/// The keys and values of kPagePositions tokens: for each layer and key-value head its keys, then
/// its values, in the layout of kernel/ops.h.
struct KvPage {
  using Tokens = std::array<std::uint32_t, kPagePositions>;

  std::unique_ptr<std::uint8_t[]> bytes;
  int users = 0;             // sequences that hold it
  std::uint64_t serial = 0;  // of a published page
  std::uint64_t before = 0;  // serial of the page before it, 0: none
  Tokens tokens = {};
  std::list<KvPage*>::iterator idle = {};  // where it waits, if published and without users
};

/// Pages are published when they are full, and found again by the tokens of their sequence. Those
/// that nobody uses stay until their memory is needed, the longest unused first.
/// Not to be used by two threads at once.
class KvPagePool {
 public:
  static constexpr std::size_t kUnlimited = std::numeric_limits<std::size_t>::max();

  static std::size_t page_bytes(const ModelConfig& config, const CacheOps& cache);
  /// That `sequences` of so many tokens may need: the last page of each may be partly filled, and
  /// one more is taken while a shared one is copied to be written to.
  static std::size_t pages_for(std::uint32_t context, std::size_t sequences) {
    return sequences * (context / kPagePositions + 2);
  }

  /// At most `most` pages.
  KvPagePool(const ModelConfig& config, const CacheOps& cache, std::size_t most = kUnlimited);
  ~KvPagePool();

  /// A page for one user, or null if all are in use. Its contents are not initialised.
  KvPage* take();
  void release(KvPage* page);
  /// Makes a full page known. False if the same tokens are known already.
  bool publish(KvPage* page, std::uint64_t before, const KvPage::Tokens& tokens);
  /// The page of these tokens behind page `before` (a serial, 0: at the start), with one user more;
  /// null if it is not known.
  KvPage* find(std::uint64_t before, const KvPage::Tokens& tokens);
  /// Like take(), with the contents of `page`, which loses a user.
  KvPage* copy(KvPage* page);

  const CacheOps& ops() const { return ops_; }
  std::int64_t head_dim() const { return head_dim_; }
  std::int64_t heads() const { return heads_; }  // of keys and values
  std::int64_t key_offset(int layer, std::int64_t head) const {
    return (layer * heads_ + head) * 2 * part_;
  }
  std::int64_t value_offset(int layer, std::int64_t head) const {
    return key_offset(layer, head) + part_;
  }
  std::size_t page_bytes() const { return page_bytes_; }
  std::size_t pages() const { return all_.size(); }  // made so far
  std::size_t used() const { return all_.size() - free_.size() - idle_.size(); }

 private:
  struct Hash {
    std::size_t operator()(const KvPage* page) const;
  };
  struct Same {
    bool operator()(const KvPage* a, const KvPage* b) const {
      return a->before == b->before && a->tokens == b->tokens;
    }
  };
  void forget(KvPage* page);  // that it was published

  const CacheOps& ops_;
  std::int64_t head_dim_, heads_, part_;  // part: bytes of the keys, or values, of a head
  std::size_t page_bytes_, most_;
  std::uint64_t last_serial_ = 0;
  std::vector<std::unique_ptr<KvPage>> all_;
  std::vector<KvPage*> free_;
  std::list<KvPage*> idle_;  // published and without users, longest first
  std::unordered_map<KvPage*, KvPage*, Hash, Same> published_;  // to itself
};

}  // namespace nibble
