// A GGUF file as other programs keep their models: Ollama's store and Modelfiles, LM Studio's
// folders.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "nibble/error.h"
#include "nibble/progress.h"

namespace nibble {

struct OllamaOptions {
  std::string model;           // a GGUF file, not split
  std::string name;            // "small", "small:q4", "somebody/small:q4"
  std::string store = {};      // Ollama's directory of models; empty: only a Modelfile is written
  std::string modelfile = {};  // where to write it; empty with a store: not at all
  std::string system = {};     // a system message that is there from the beginning
  std::string license = {};    // text; empty: what the file's general.license says
  std::string template_text = {};  // a template for Ollama; empty: translated from the model's own
  std::uint32_t context = 4096;    // at most what the model was made for
  bool force = false;              // replace what is there
};

struct LmStudioOptions {
  std::string model;
  std::string store;  // LM Studio's directory of models
  std::string publisher = "local";
  std::string name = {};  // of the folder; empty: of the file
  bool force = false;
};

struct ExportedFile {
  enum class How { written, linked, copied, there_already };
  std::string path;
  std::uint64_t bytes = 0;
  How how = How::written;
};

struct ExportReport {
  std::vector<ExportedFile> files;
  std::string template_text = {};  // Ollama's
  std::vector<std::string> stop = {};
  std::vector<std::string> notes = {};
};

/// Errors: a file that is no GGUF, a chat template that cannot be translated without a change of
/// meaning, a name or file that is there already.
Result<ExportReport> export_ollama(const OllamaOptions& options,
                                   Progress& progress = no_progress());
Result<ExportReport> export_lm_studio(const LmStudioOptions& options,
                                      Progress& progress = no_progress());

}  // namespace nibble
