// Which levels of a model fit a machine, how fast they would run there and what they would cost in
// quality: sizes from plans, memory from what the runtime allocates, speed from the kernels run on
// the model's shapes, quality from measurements. Nothing is quantized for it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "nibble/benchmark.h"
#include "nibble/error.h"
#include "nibble/progress.h"

namespace nibble {

struct Machine {
  std::string isa;  // of the kernels in use
  int cores = 0, threads = 0;
  std::uint64_t memory_bytes = 0;  // of the machine, or of the container that this runs in
  std::uint64_t free_bytes = 0;    // of them, for whoever asks now
  MachineSpeed speed;
  std::vector<std::string> gpus = {};  // which nibble does not use
};

/// Takes a fifth of a second and 256 MB. Error: a NIBBLE_ISA that does not run here.
Result<Machine> probe_machine(int threads = 0);

/// What the model is for: on which kind of text losses are judged, and how much may be lost.
enum class Purpose { chat, code, math, speed };
std::optional<Purpose> find_purpose(std::string_view name);
std::string_view name_of(Purpose purpose);

struct AdviseOptions {
  /// A GGUF file, a Hugging Face directory, or a config.json (or a directory with only that).
  std::string source;
  std::uint64_t memory_bytes = 0;  // of the machine it is for; 0: what is free on this one
  std::uint32_t context = 8192;    // tokens; at most what the model was made for
  std::string cache = "";          // type of keys and values; empty: f16
  Purpose purpose = Purpose::chat;
  std::vector<std::string> levels = {};       // to look at; empty: all that are known
  std::vector<std::string> evaluations = {};  // JSON that `nibble eval --ref` or `nibble compare`
                                              // wrote about this model
  bool measure_speed = true;                  // some seconds, which others on the machine disturb
};

/// Bytes of `nibble run` with a full context.
struct MemoryNeed {
  std::uint64_t weights = 0;  // packed for the processor
  std::uint64_t cache = 0;    // keys and values of all positions
  std::uint64_t work = 0;     // activations, scratch
  std::uint64_t program = 0;  // the program itself, the tokenizer
  std::uint64_t total() const { return weights + cache + work + program; }
};

/// Tokens per second.
struct LevelSpeed {
  double prefill = 0;
  double decode = 0;       // with an empty context
  double decode_full = 0;  // with a full one
};

/// Against the model as it was trained.
struct LevelLoss {
  double kld = 0, kld_se = 0;  // mean KL divergence, nats a token, and its standard error
  double same_top = 0;         // share of tokens where both prefer the same next one, 0 to 1
  bool own = false;            // measured on this model; else taken from nibble's table
  std::string origin;  // what was measured, and where: "SmolLM2-135M (135M parameters), ..."
};

struct AdvisedLevel {
  std::string name;  // a level, or "as it is": the file that was given
  std::uint64_t file_bytes = 0;
  double bits_per_weight = 0;
  double other_formats = 0;  // share of the weights whose rows do not fit the blocks of the level
  MemoryNeed memory;
  bool fits = false;
  std::optional<LevelSpeed> speed = {};
  std::optional<LevelLoss> loss = {};
};

struct Advice {
  Machine machine;
  std::string source, architecture;
  std::uint64_t parameters = 0;
  std::uint32_t context = 0;       // in tokens, that memory is counted for
  std::uint64_t memory_bytes = 0;  // that may be used
  Purpose purpose = Purpose::chat;
  bool runs = true;                        // nibble can quantize and run this architecture
  std::vector<AdvisedLevel> levels;        // the best first; behind them what does not fit
  std::optional<std::size_t> recommended;  // of `levels`; none: nothing fits, see the notes
  std::string rule;                        // how they were ranked, in a sentence
  std::vector<std::string> notes;          // what is to be known about the figures, in sentences
};

/// Errors: a model that cannot be read, a level that does not exist, reports that are none.
Result<Advice> advise(const AdviseOptions& options, const Machine& machine,
                      Progress& progress = no_progress());

/// One JSON object with the fields above.
std::string advice_json(const Advice& advice);

}  // namespace nibble
