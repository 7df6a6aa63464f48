#include "export/modelfile.h"

#include "base/json.h"

namespace nibble {
namespace {

constexpr std::string_view kQuotes = "\"\"\"";

/// Text in a template. Braces would begin an action: they are said as a string.
std::string literal(const std::string& text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text.compare(i, 2, "{{") != 0) {
      out += text[i];
      continue;
    }
    out += "{{ \"{{\" }}";
    ++i;
  }
  return out;
}

Status put(std::string& out, std::string_view instruction, const std::string& text) {
  if (text.empty()) return {};
  if (text.find(kQuotes) != text.npos || text.ends_with('"'))
    return fail(ErrorCode::unsupported,
                "{}: the text holds three quotation marks in a row or ends in one, which a "
                "Modelfile cannot say; give another",
                instruction);
  out += fmt::format("{} {}{}{}\n", instruction, kQuotes, text, kQuotes);
  return {};
}

}  // namespace

std::string ollama_template(const ChatForm& form) {
  std::string out;
  if (form.begin_system)
    out += "{{ if .System }}" + literal(*form.begin_system) + "{{ .System }}" +
           literal(form.after_system) + "{{ else }}" + literal(form.begin) + "{{ end }}";
  else
    out += literal(form.begin);
  // A message is the last where nothing is behind it.
  out +=
      "{{ range $i, $m := .Messages }}{{ $last := eq (len (slice $.Messages $i)) 1 }}"
      "{{ if eq $m.Role \"user\" }}{{ $m.Content }}{{ if $last }}" +
      literal(form.before_answer) + "{{ else }}" + literal(form.before_answered) +
      "{{ end }}{{ else if eq $m.Role \"assistant\" }}{{ $m.Content }}{{ if not $last }}" +
      literal(form.after_answer) + "{{ end }}{{ end }}{{ end }}";
  return out;
}

Result<std::string> to_text(const Modelfile& modelfile) {
  std::string out = fmt::format("FROM {}\n", modelfile.from);
  NIBBLE_DO(put(out, "TEMPLATE", modelfile.template_text));
  if (modelfile.context > 0) out += fmt::format("PARAMETER num_ctx {}\n", modelfile.context);
  for (const std::string& stop : modelfile.stop)
    out += fmt::format("PARAMETER stop {}\n", Json(stop).dump());
  NIBBLE_DO(put(out, "SYSTEM", modelfile.system));
  NIBBLE_DO(put(out, "LICENSE", modelfile.license));
  return out;
}

std::string parameters_json(const Modelfile& modelfile) {
  Json out = Json::object();
  if (modelfile.context > 0) out["num_ctx"] = modelfile.context;
  if (!modelfile.stop.empty()) out["stop"] = modelfile.stop;
  return out.dump();
}

}  // namespace nibble
