// Answers that follow a schema, or call a tool.
#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>

#include "base/utf8.h"
#include "serve/api.h"

namespace nibble {
namespace {

std::string text_of(const OrderedJson& json) {
  return json.dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
}

bool has_any(const OrderedJson& schema, std::initializer_list<const char*> keys) {
  return std::ranges::any_of(keys, [&](const char* key) { return schema.contains(key); });
}

/// Several schemas speak of the properties of one object.
bool composes(const OrderedJson& schema) {
  if (!schema.is_structured()) return false;
  if (has_any(schema, {"allOf", "not", "if", "dependentSchemas"})) return true;
  if (schema.contains("properties") &&
      has_any(schema, {"anyOf", "oneOf", "$ref", "patternProperties", "unevaluatedProperties"}))
    return true;
  return std::ranges::any_of(schema, composes);
}

void close_objects(OrderedJson& schema) {
  if (schema.is_array())
    for (OrderedJson& each : schema) close_objects(each);
  if (!schema.is_object()) return;
  for (const char* key : {"items", "prefixItems", "anyOf", "oneOf"})
    if (schema.contains(key)) close_objects(schema[key]);
  for (const char* key : {"properties", "$defs", "definitions"})
    if (schema.contains(key) && schema[key].is_object())
      for (OrderedJson& each : schema[key]) close_objects(each);
  if (schema.contains("properties") && !has_any(schema, {"additionalProperties", "minProperties"}))
    schema["additionalProperties"] = false;
}

/// Objects get no other properties than the schema names, where it does not say, and white space
/// between the parts of a document is limited: a model that is not sure what to write would go on
/// with either for ever. Every such answer follows the schema that was given, too.
void narrow(OrderedJson& schema) {
  if (!composes(schema)) close_objects(schema);
  schema["x-guidance"] = {{"whitespace_pattern", R"([\x20\x0A\x0D\x09]{1,40})"}};
}

/// {"name": ..., "arguments": ...} for one of the tools.
Result<OrderedJson> call_schema(const OrderedJson& tools, const std::string& name) {
  OrderedJson calls = OrderedJson::array();
  for (const OrderedJson& tool : tools) {
    const bool is_function = tool.is_object() && tool.contains("function") &&
                             tool["function"].is_object() && tool["function"].contains("name");
    if (!is_function)
      return fail(ErrorCode::invalid, "field 'tools[{}]' is no function with a name", calls.size());
    const OrderedJson& function = tool["function"];
    if (!name.empty() && function["name"] != name) continue;
    const OrderedJson any = {{"type", "object"}};
    const OrderedJson properties = {{"name", {{"const", function["name"]}}},
                                    {"arguments", function.value("parameters", any)}};
    calls.push_back({{"type", "object"},
                     {"properties", properties},
                     {"required", {"name", "arguments"}},
                     {"additionalProperties", false}});
  }
  if (calls.empty())
    return fail(ErrorCode::invalid, "field 'tool_choice': there is no tool {}", quote(name));
  return OrderedJson{{"anyOf", std::move(calls)}};
}

}  // namespace

Status follow_schema(const ServedModel& model, OrderedJson schema, GenerationRequest& request) {
  narrow(schema);
  NIBBLE_TRY(const GrammarCompiler* compiler, model.grammar_compiler());
  NIBBLE_TRY(Matcher matcher, compiler->json_schema(text_of(schema)));
  request.grammar = std::make_shared<const Matcher>(std::move(matcher));
  return {};
}

Status follow_tools(const ServedModel& model, const OrderedJson& tools, const std::string& name,
                    GenerationRequest& request) {
  NIBBLE_TRY(OrderedJson schema, call_schema(tools, name));
  // As the model's template has it, or as the whole text: parse_tool_calls() understands both.
  if (model.tokenizer().chat_template().find("<tool_call>") == std::string::npos)
    return follow_schema(model, std::move(schema), request);
  narrow(schema);
  NIBBLE_TRY(const GrammarCompiler* compiler, model.grammar_compiler());
  NIBBLE_TRY(Matcher matcher,
             compiler->rules(fmt::format("start: \"<tool_call>\\n\" call \"\\n</tool_call>\"\n"
                                         "call: %json {}\n",
                                         text_of(schema))));
  request.grammar = std::make_shared<const Matcher>(std::move(matcher));
  return {};
}

}  // namespace nibble
