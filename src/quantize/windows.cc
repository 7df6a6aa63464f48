#include "quantize/windows.h"

#include "calib/stream.h"
#include "container/imatrix.h"

namespace nibble {
namespace {

constexpr std::uint32_t kContext = 512;  // tokens a window

}  // namespace

Result<Corpus> calibration_windows(const Model& model, const QuantizeOptions& options,
                                   std::uint64_t most, Progress& progress) {
  const std::string& text = options.calibration;
  if (!text.empty() && is_imatrix(text))
    return fail(ErrorCode::invalid,
                "{}: an importance matrix; error feedback needs the text itself, or --recipe "
                "importance",
                text);
  NIBBLE_TRY_IN(options.source, const Tokenizer tokenizer, Tokenizer::open(model.source()));
  const CorpusOptions corpus_options{
      .text = text,
      .context = std::min(kContext, model.config().context),
      .windows = options.calibration_chunks > 0 ? options.calibration_chunks : most};
  std::unique_ptr<Runtime> writer;  // only where the model writes the text itself
  if (text.empty()) {
    NIBBLE_TRY_IN(options.source, writer,
                  Runtime::load(model, {.threads = options.threads}, progress));
  }
  return make_corpus(corpus_options, tokenizer, writer.get(), progress);
}

Result<Corpus> judging_text(const Model& model, const QuantizeOptions& options,
                            const std::optional<Corpus>& calibrated, std::size_t windows,
                            Progress& progress) {
  if (calibrated) return *calibrated;
  QuantizeOptions text = options;
  if (!text.calibration.empty() && is_imatrix(text.calibration)) text.calibration.clear();
  const std::uint64_t most = text.calibration.empty() ? 2 : windows * BlockStream::kHeldOut;
  return calibration_windows(model, text, most, progress);
}

std::vector<std::vector<Token>> selection_windows(const Corpus& corpus, std::size_t most) {
  std::vector<std::vector<Token>> out;
  for (std::size_t i = BlockStream::kHeldOut - 1; i < corpus.windows.size() && out.size() < most;
       i += BlockStream::kHeldOut)
    out.push_back(corpus.windows[i]);
  if (out.empty()) out.push_back(corpus.windows.back());
  return out;
}

}  // namespace nibble
