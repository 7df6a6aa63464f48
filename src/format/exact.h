// From one format to another without loss, where the other holds the same values: groups of signed
// 4-bit integers with fp16 scales, for one, are blocks of Q4_0.
#pragma once

#include "format/format.h"

namespace nibble {

/// Whether blocks of `from` may have a counterpart in `to`; their scales decide.
bool may_convert_exactly(const Format& from, const Format& to);

/// Writes the blocks of `to` that decode to the same values as `columns` columns of
/// `from` at `in`. False where there are none: `out` then holds anything. Only if
/// may_convert_exactly(); columns: a multiple of from.block().
bool convert_exactly(const Format& from, const std::byte* in, const Format& to, std::size_t columns,
                     std::byte* out);

/// The format of GGUF files that is most likely to hold what `format` holds: itself, or F16 where
/// there is none of few bits.
const Format& gguf_format(const Format& format);

}  // namespace nibble
