// Reads a file back before it gets its name: every field as it was meant, every block finite.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "base/threads.h"
#include "container/source.h"

namespace nibble {

/// `paths`: GGUF files that together hold `tensors`, in order.
Status verify_gguf(const std::vector<std::string>& paths, std::span<const TensorInfo> tensors,
                   ThreadPool& pool);

}  // namespace nibble
