// What levels cost in quality: from reports about the model at hand, or from nibble's own table.
#pragma once

#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "nibble/advise.h"

namespace nibble {

/// Losses by level, of reports that `nibble eval --ref --json` or `nibble compare --json` wrote. A
/// level is known by the name of the file that was measured.
/// Errors: files that are no such reports, names of no level.
Result<std::map<std::string, LevelLoss>> read_losses(const std::vector<std::string>& reports);

/// What the table has for a level: of the model nearest in size, and of those first whose rows fit
/// blocks of 256 as the model's do, or do not.
std::optional<LevelLoss> table_loss(std::string_view level, Purpose purpose,
                                    std::uint64_t parameters, bool fits_blocks);

/// The kind of text that losses are judged on: the purpose's own, or prose where the table has
/// none.
std::string_view text_for(Purpose purpose);

/// The sizes of the models that the table was measured on.
std::vector<std::uint64_t> table_sizes();

}  // namespace nibble
