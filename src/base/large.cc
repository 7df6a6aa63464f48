#include "base/large.h"

#include <sys/mman.h>

#include <atomic>
#include <chrono>
#include <new>

namespace nibble {
namespace {

constexpr std::size_t kPage = std::size_t{2} << 20;

#ifdef MADV_HUGEPAGE

/// Clearing such a page takes a fifth of that. More means that the system makes room for it by
/// moving others, or that a host behind it has to find the memory first: small pages come from
/// what was in use a moment ago.
constexpr std::chrono::steady_clock::duration kLong = std::chrono::milliseconds(1);

/// Until they take long on average.
void ask_for_huge_pages(std::byte* p, std::size_t bytes) {
  using Clock = std::chrono::steady_clock;
  static std::atomic<Clock::rep> taken = 0, asked = 0;
  constexpr Clock::rep kEnough = 4;
  if (asked >= kEnough && taken > asked * kLong.count()) return;
  ::madvise(p, bytes, MADV_HUGEPAGE);  // a wish only
  const auto start = Clock::now();
  *static_cast<volatile std::byte*>(p) = std::byte{0};
  taken += (Clock::now() - start).count();
  ++asked;
}

#else

void ask_for_huge_pages(std::byte*, std::size_t) {}

#endif

}  // namespace

std::shared_ptr<std::byte> allocate_large(std::size_t bytes) {
  const auto align = std::align_val_t{bytes < kPage ? 64 : kPage};
  auto* p = static_cast<std::byte*>(::operator new(bytes, align));
  if (bytes >= kPage) ask_for_huge_pages(p, bytes / kPage * kPage);
  return {p, [align](std::byte* q) { ::operator delete(q, align); }};
}

void populate_large([[maybe_unused]] std::byte* p, std::size_t bytes, ThreadPool& pool) {
#ifdef MADV_POPULATE_WRITE
  pool.run(std::int64_t(bytes / kPage), 1, [p](std::int64_t begin, std::int64_t end) {
    ::madvise(p + std::size_t(begin) * kPage, std::size_t(end - begin) * kPage,
              MADV_POPULATE_WRITE);  // a wish too: older systems do not know it
  });
#endif
}

}  // namespace nibble
