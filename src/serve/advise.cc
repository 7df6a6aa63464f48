#include "nibble/advise.h"

#include <mutex>

#include "base/utf8.h"
#include "serve/nibble.h"

namespace nibble {
namespace {

/// Two that measure at once would measure each other.
std::mutex measuring;

/// Clients are not to know where the files of models lie.
std::string without_path(std::string text, const std::string& path) {
  constexpr std::string_view kInstead = "the model";
  for (std::size_t at = 0; (at = text.find(path, at)) != std::string::npos; at += kInstead.size())
    text.replace(at, path.size(), kInstead);
  return text;
}

Result<ModelEntry> entry_of(const ModelTable& models, const Json& body) {
  NIBBLE_TRY(const std::string name, json_string_or(body, "model", models.first()));
  for (ModelEntry& entry : models.entries())
    if (entry.name == name) return std::move(entry);
  return fail(ErrorCode::invalid, "field 'model': there is no model of that name");
}

Result<AdviseOptions> parse_options(const Json& body, const ModelEntry& entry) {
  AdviseOptions out;
  out.source = entry.path;
  NIBBLE_TRY(const auto context, whole_field(body, "context", 4096, 1, UINT32_MAX));
  NIBBLE_TRY(const auto memory, whole_field(body, "memory_bytes", 0, 0, INT64_MAX));
  NIBBLE_TRY(const std::string purpose, json_string_or(body, "for", "chat"));
  NIBBLE_TRY(out.measure_speed, json_bool_or(body, "measure_speed", true));
  const auto found = find_purpose(purpose);
  if (!found)
    return fail(ErrorCode::invalid, "field 'for' is {}, expected chat, code, math or speed",
                quote(purpose));
  out.context = std::uint32_t(context), out.memory_bytes = std::uint64_t(memory);
  out.purpose = *found;
  return out;
}

Result<std::string> advice(const AdviseOptions& options, const ModelEntry& entry, int threads) {
  const std::unique_lock lock(measuring, std::try_to_lock);
  if (!lock) return fail(ErrorCode::io, "this machine is being measured already; try again later");
  NIBBLE_TRY(const Machine machine, probe_machine(threads));
  NIBBLE_TRY(Advice found, advise(options, machine));
  found.source = entry.name;
  for (std::string& note : found.notes) note = without_path(note, entry.path);
  return advice_json(found);
}

}  // namespace

ServerReply nibble_advise(const ModelTable& models, const ServerRequest& http) {
  const auto body = parse_json(http.body);
  if (!body) return reply_to(body.error());
  const auto entry = entry_of(models, *body);
  if (!entry) return reply_to(entry.error());
  const auto options = parse_options(*body, *entry);
  if (!options) return reply_to(options.error());
  const auto found = advice(*options, *entry, models.threads());
  if (!found)
    return reply_to(
        Error(found.error().code(), without_path(found.error().message(), entry->path)));
  return {.body = *found};
}

}  // namespace nibble
