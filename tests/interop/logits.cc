// logits MODEL TOKENS OUT: runs one sequence through a model with float32 activations and writes
// the logits after every token as raw float32 [tokens][vocab]. TOKENS is a file of decimal token
// ids separated by spaces.
#include <cstdio>
#include <fstream>
#include <iterator>

#include "arch/arch.h"
#include "graph/runtime.h"

namespace {

nibble::Status run(const char* model_path, const char* tokens_path, const char* out_path) {
  std::ifstream in(tokens_path);
  const std::vector<std::uint32_t> tokens{std::istream_iterator<std::uint32_t>(in), {}};
  NIBBLE_TRY(const nibble::Model model, nibble::Model::open(model_path));
  NIBBLE_TRY(const auto runtime,
             nibble::Runtime::load(model, {.threads = 1, .precision = nibble::Precision::exact}));
  nibble::Session session(*runtime, static_cast<std::uint32_t>(tokens.size()));
  NIBBLE_TRY(const auto logits, session.forward(tokens, nibble::Session::Logits::all));
  std::ofstream out(out_path, std::ios::binary);
  out.write(reinterpret_cast<const char*>(logits.data()),
            static_cast<std::streamsize>(logits.size_bytes()));
  out.close();
  if (!out) return nibble::fail(nibble::ErrorCode::io, "{}: cannot be written", out_path);
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return std::fputs("usage: logits MODEL TOKENS OUT\n", stderr), 2;
  const auto status = run(argv[1], argv[2], argv[3]);
  if (!status) return std::fprintf(stderr, "%s\n", status.error().message().c_str()), 2;
  return 0;
}
