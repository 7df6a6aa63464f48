// Modelfiles and their parts, as Ollama reads them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "export/chat_form.h"

namespace nibble {

struct Modelfile {
  std::string from;           // path of the GGUF
  std::string template_text;  // of Go's text/template; empty: none
  std::string system, license;
  std::vector<std::string> stop;
  std::uint32_t context = 0;
};

/// Of the form's texts and Ollama's variables .System and .Messages.
std::string ollama_template(const ChatForm& form);

/// The text of a Modelfile. Error: a text holds three quotation marks in a row, which it cannot.
Result<std::string> to_text(const Modelfile& modelfile);

/// The parameters as a layer of the store has them.
std::string parameters_json(const Modelfile& modelfile);

}  // namespace nibble
