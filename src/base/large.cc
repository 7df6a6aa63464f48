#include "base/large.h"

#include <sys/mman.h>

#include <new>

namespace nibble {

std::shared_ptr<std::byte> allocate_large(std::size_t bytes) {
  constexpr std::size_t kPage = std::size_t{2} << 20;
  const auto align = std::align_val_t{bytes < kPage ? 64 : kPage};
  auto* p = static_cast<std::byte*>(::operator new(bytes, align));
#ifdef MADV_HUGEPAGE
  if (bytes >= kPage) ::madvise(p, bytes / kPage * kPage, MADV_HUGEPAGE);  // a wish only
#endif
  return {p, [align](std::byte* q) { ::operator delete(q, align); }};
}

}  // namespace nibble
