// Reads what was written back before it gets its name: every field as it was meant, every block
// finite.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "base/threads.h"
#include "container/source.h"
#include "plan/plan.h"

namespace nibble {

/// `paths`: GGUF files that together hold `tensors`, in order.
Status verify_gguf(const std::vector<std::string>& paths, std::span<const TensorInfo> tensors,
                   ThreadPool& pool);

/// `path`: a Hugging Face checkpoint that holds what `plan` says.
Status verify_hf(const std::string& path, const Plan& plan, ThreadPool& pool);

}  // namespace nibble
