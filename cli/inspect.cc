// nibble inspect FILE: what is in a checkpoint.
#include "nibble/inspect.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <memory>

#include "cli/command.h"
#include "container/hub.h"

namespace nibble::cli {
namespace {

using Json = nlohmann::ordered_json;

struct Options {
  std::string path;
  bool json = false, all = false;
};

Json to_json(const Inspection& found) {
  Json out = {{"files", found.files},
              {"format", found.format},
              {"architecture", found.architecture},
              {"parameters", found.parameters},
              {"bytes", found.bytes},
              {"tensor_bytes", found.tensor_bytes},
              {"bits_per_weight", found.bits_per_weight},
              {"metadata", Json::object()},
              {"tensors", Json::array()},
              {"notes", found.notes}};
  for (const InspectedField& field : found.metadata) {
    Json value = Json::parse(field.json);
    if (field.length > 0 && value.size() < field.length)
      value = {{"type", field.type}, {"length", field.length}, {"first", value}};
    out["metadata"][field.key] = std::move(value);
  }
  for (const InspectedTensor& tensor : found.tensors)
    out["tensors"].push_back({{"name", tensor.name},
                              {"shape", tensor.shape},
                              {"format", tensor.format},
                              {"bytes", tensor.bytes}});
  return out;
}

/// Long texts, such as chat templates, in one short line.
std::string brief(const InspectedField& field) {
  constexpr std::size_t limit = 100;
  std::string text = field.json.substr(0, limit);
  if (field.json.size() > limit) text += "...";
  if (field.length > 0) text += fmt::format(" ({} in all)", field.length);
  return text;
}

void print(const Inspection& found) {
  fmt::print("{}\n", fmt::join(found.files, "\n"));
  fmt::print("format           {}\narchitecture     {}\nparameters       {}\n", found.format,
             found.architecture.empty() ? "not stated" : found.architecture, found.parameters);
  fmt::print("bytes            {} ({})\nbits per weight  {:.3f}\n\n", found.bytes,
             human_bytes(found.bytes), found.bits_per_weight);
  for (const InspectedField& field : found.metadata)
    fmt::print("{:<40} {:<8} {}\n", field.key, field.type, brief(field));
  if (!found.metadata.empty()) fmt::print("\n");
  for (const InspectedTensor& tensor : found.tensors)
    fmt::print("{:<40} {:<16} {:>12} {}\n", tensor.name, tensor.format, tensor.bytes,
               fmt::join(tensor.shape, " x "));
  for (const std::string& note : found.notes) fmt::print("\nNote: {}\n", note);
}

}  // namespace

Run add_inspect(CLI::App& app) {
  auto options = std::make_shared<Options>();
  app.description("Show what is in a GGUF file, a .safetensors file or a Hugging Face directory.");
  app.add_option("FILE", options->path, "the checkpoint")->required();
  app.add_flag("--json", options->json, "one JSON document on standard output");
  app.add_flag("--all", options->all, "whole arrays, however long (vocabularies)");
  app.footer(
      "Shapes are as the file states them: GGUF fastest dimension first (the reverse of PyTorch),\n"
      "safetensors outermost first.\n"
      "Examples:\n"
      "  nibble inspect small.gguf\n"
      "  nibble inspect small.gguf --json --all | jq '.metadata[\"tokenizer.ggml.tokens\"][:20]'");
  return [options] {
    ConsoleProgress progress;
    const auto path = resolve_source(options->path, {}, progress);
    if (!path) return report(path.error());
    const auto found = inspect(*path, options->all ? ~std::uint64_t(0) : 8);
    if (!found) return report(found.error());
    if (options->json) return print_json(to_json(*found));
    print(*found);
    return kExitOk;
  };
}

}  // namespace nibble::cli
