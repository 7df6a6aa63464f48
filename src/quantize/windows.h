// The text that rounding calibrates on, as windows of tokens.
#pragma once

#include "arch/arch.h"
#include "calib/corpus.h"
#include "nibble/quantize.h"

namespace nibble {

inline constexpr std::uint64_t kFeedbackWindows = 256;  // of a text: 131072 tokens
inline constexpr std::uint64_t kChoiceWindows = 32;     // of these, to choose formats and scales by
inline constexpr std::uint64_t kOwnWindows = 32;  // that the model writes itself, token by token

/// Windows of options.calibration, a text, or of text that the model writes itself if that is
/// empty. `most`: windows at most where the options do not say.
Result<Corpus> calibration_windows(const Model& model, const QuantizeOptions& options,
                                   std::uint64_t most, Progress& progress);

/// A text to judge by: the one that was calibrated on, if there was one, else
/// options.calibration, else what the model writes; enough for `windows` of those that no rounding
/// is fitted to.
Result<Corpus> judging_text(const Model& model, const QuantizeOptions& options,
                            const std::optional<Corpus>& calibrated, std::size_t windows,
                            Progress& progress);

/// Those of its windows that no rounding is fitted to, for choosing by.
std::vector<std::vector<Token>> selection_windows(const Corpus& corpus, std::size_t most);

}  // namespace nibble
