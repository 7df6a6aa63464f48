// Memory that is read from end to end again and again.
#pragma once

#include <cstddef>
#include <memory>

#include "base/threads.h"

namespace nibble {

/// `bytes` bytes, not initialized, aligned to 64. Whole 2 MiB of it are of one page where the
/// system allows and has them at hand: with pages of 4 KiB a processor reads memory a fifth slower,
/// since it looks up addresses all the time (most of all in a virtual machine).
std::shared_ptr<std::byte> allocate_large(std::size_t bytes);

/// Has the system find such memory at once, on all threads: a fault for every page would cost more
/// (most of all in a virtual machine).
void populate_large(std::byte* p, std::size_t bytes, ThreadPool& pool);

}  // namespace nibble
