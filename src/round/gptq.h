// Error feedback (GPTQ) in every format whose codes are chosen column by column.
#pragma once

#include <span>

#include "round/feedback.h"
#include "round/second_moment.h"

namespace nibble {

std::span<const Feedback* const> feedback_registry();

}  // namespace nibble
