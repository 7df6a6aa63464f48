#include "graph/cache.h"

#include <algorithm>
#include <cstring>

namespace nibble {
namespace {

constexpr std::int64_t kSerialWork = 1 << 15;  // multiplications that do not pay other threads

KvPage::Tokens page_tokens(std::span<const std::uint32_t> tokens, std::size_t page) {
  KvPage::Tokens out;
  std::copy_n(tokens.begin() + std::ptrdiff_t(page * out.size()), out.size(), out.begin());
  return out;
}

}  // namespace

void KvCache::put(std::size_t index, KvPage* page) {
  if (index == pages_.size()) pages_.emplace_back(), bytes_.emplace_back();
  pages_[index] = page;
  bytes_[index] = page->bytes.get();
}

Status KvCache::reserve(std::uint32_t position, std::int64_t count) {
  const auto first = std::size_t(position / kPagePositions);
  const auto end = std::size_t((position + count + kPagePositions - 1) / kPagePositions);
  for (std::size_t i = first; i < end; ++i) {
    KvPage* page = nullptr;
    if (i < published_)
      page = pool_->copy(pages_[i]);
    else if (i < pages_.size())
      continue;
    else
      page = pool_->take();
    if (!page) return fail(ErrorCode::invalid, "all memory for keys and values is in use");
    put(i, page);
  }
  published_ = std::min(published_, first);
  return {};
}

Status KvCache::blank(std::uint32_t positions) {
  NIBBLE_DO(reserve(0, positions));
  for (std::size_t i = 0; i * kPagePositions < positions; ++i)
    std::memset(pages_[i]->bytes.get(), 0, pool_->page_bytes());
  return {};
}

void KvCache::truncate(std::uint32_t positions) {
  const auto kept = std::size_t((positions + kPagePositions - 1) / kPagePositions);
  while (pages_.size() > kept) {  // from the end: the first pages of a sequence are found most
    pool_->release(pages_.back());
    pages_.pop_back();
    bytes_.pop_back();
  }
  published_ = std::min(published_, pages_.size());
}

std::uint32_t KvCache::reuse(std::span<const std::uint32_t> tokens) {
  truncate(0);
  while ((published_ + 1) * kPagePositions <= tokens.size()) {
    const std::uint64_t before = published_ == 0 ? 0 : pages_.back()->serial;
    KvPage* page = pool_->find(before, page_tokens(tokens, published_));
    if (!page) break;
    put(published_++, page);
  }
  return std::uint32_t(published_ * kPagePositions);
}

void KvCache::publish(std::span<const std::uint32_t> tokens) {
  for (; (published_ + 1) * kPagePositions <= tokens.size(); ++published_) {
    const std::uint64_t before = published_ == 0 ? 0 : pages_[published_ - 1]->serial;
    const auto own = page_tokens(tokens, published_);
    if (pool_->publish(pages_[published_], before, own)) continue;
    KvPage* known = pool_->find(before, own);  // another sequence was first: share its page
    pool_->release(pages_[published_]);
    put(published_, known);
  }
}

void append_to_caches(const Node& node, std::span<const Portion> portions, const float* keys,
                      const float* values, ThreadPool& pool) {
  if (portions.empty()) return;
  const KvPagePool& pages = portions[0].cache->pool();
  const std::int64_t dim = pages.head_dim(), row = dim * pages.heads();
  std::int64_t rows = 0;
  for (const Portion& portion : portions) rows += portion.count;
  const auto fill = [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t h = begin; h < end; ++h)
      for (const Portion& portion : portions)
        for (std::int64_t t = 0; t < portion.count; ++t) {
          const std::int64_t position = portion.position + t;
          const std::int64_t at = (portion.begin + t) * row + h * dim;
          std::uint8_t* page = portion.cache->page(position / kPagePositions);
          pages.ops().store(keys + at, values + at, int(dim),
                            page + pages.key_offset(node.layer, h),
                            page + pages.value_offset(node.layer, h), position % kPagePositions);
        }
  };
  pool.run(pages.heads(), rows * row > kSerialWork ? 1 : pages.heads(), fill);
}

void attend_to_caches(const Node& node, std::span<const Portion> portions, int group,
                      const float* q, float* out, ThreadPool& pool) {
  if (portions.empty()) return;
  const KvPagePool& pages = portions[0].cache->pool();
  const std::int64_t dim = pages.head_dim(), heads = pages.heads(), row = dim * heads * group;
  struct Task {
    const Portion* portion;
    std::int64_t token;
  };
  std::vector<Task> tasks;  // each for every head
  std::int64_t cost = 0;
  for (const Portion& portion : portions) {
    for (std::int64_t t = 0; t < portion.count; t += kAttendTokens) tasks.push_back({&portion, t});
    cost += portion.count * row * (portion.position + portion.count);
  }
  const auto work = [&](std::int64_t begin, std::int64_t end) {
    static thread_local std::vector<float> scratch;
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t h = i % heads;
      const auto& [portion, t] = tasks[std::size_t(i / heads)];
      const std::int64_t tokens = std::min(kAttendTokens, portion->count - t);
      const std::int64_t position = portion->position + t;
      const std::int64_t floats = attend_scratch(tokens, group, int(dim), position);
      if (scratch.size() < std::size_t(floats)) scratch.resize(std::size_t(floats));
      const std::int64_t at = (portion->begin + t) * row + h * group * dim;
      const AttendArgs args{.q = q + at,
                            .out = out + at,
                            .q_stride = row,
                            .out_stride = row,
                            .pages = portion->cache->bytes(),
                            .key_offset = pages.key_offset(node.layer, h),
                            .value_offset = pages.value_offset(node.layer, h),
                            .position = position,
                            .tokens = tokens,
                            .window = node.window,
                            .group = group,
                            .head_dim = int(dim),
                            .scale = node.scale,
                            .cap = node.cap,
                            .scratch = scratch.data()};
      pages.ops().attend(&args);
    }
  };
  const auto all = std::int64_t(tasks.size()) * heads;
  pool.run(all, cost > kSerialWork ? 1 : all, work);
}

}  // namespace nibble
