// The types of a key-value cache.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "kernel/matrix.h"
#include "kernel/ops.h"

namespace nibble {

/// Of the active instruction set, the most exact first.
std::span<const CacheOps> cache_types();
/// Their names, for messages: "f32, f16, ...".
std::string cache_type_names();

/// `type` empty: what is usual at a precision, which loses nothing that the precision keeps. Error:
/// there is no such type.
Result<const CacheOps*> find_cache(std::string_view type, Precision precision);

}  // namespace nibble
