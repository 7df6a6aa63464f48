#include "nibble/inspect.h"

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "base/json.h"
#include "container/source.h"

namespace nibble {
namespace {

constexpr const char* kTypeNames[] = {"u8",  "i8",   "u16",    "i16", "u32", "i32",
                                      "f32", "bool", "string", "u64", "i64", "f64"};
constexpr std::size_t kScalarTypes = std::size(kTypeNames);

/// JSON has no NaN and no infinity.
template <class T>
Json to_json(const T& value) {
  if constexpr (std::is_floating_point_v<T>)
    if (!std::isfinite(value)) return std::isnan(value) ? "nan" : value > 0 ? "inf" : "-inf";
  return value;
}

template <class T>
Json to_json(const std::vector<T>& values, std::uint64_t limit) {
  Json out = Json::array();
  for (std::size_t i = 0; i < std::min<std::uint64_t>(values.size(), limit); ++i)
    out.push_back(to_json(T(values[i])));
  return out;
}

template <class T>
constexpr bool is_array = false;
template <class T>
constexpr bool is_array<std::vector<T>> = true;

InspectedField field_of(const Metadata::Entry& entry, std::uint64_t limit) {
  InspectedField field{entry.first, kTypeNames[entry.second.index() % kScalarTypes], "", 0};
  const Json value = std::visit(
      [&](const auto& x) {
        using T = std::decay_t<decltype(x)>;
        if constexpr (is_array<T>) {
          field.type = "[" + field.type + "]";
          field.length = x.size();
          return to_json(x, limit);
        } else {
          return to_json(x);
        }
      },
      entry.second);
  field.json = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  return field;
}

std::string architecture_of(const Source& source) {
  if (const auto id = source.metadata().text("general.architecture")) return *id;
  if (!source.hf()) return "";
  const Json& config = source.hf()->config;
  const auto it = config.find("architectures");
  if (it == config.end() || !it->is_array() || it->empty() || !it->front().is_string()) return "";
  return it->front().get<std::string>();
}

}  // namespace

Result<Inspection> inspect(const std::string& path, std::uint64_t array_limit) {
  NIBBLE_TRY(const auto source, open_source(path));
  Inspection out{.files = source->files(),
                 .format = std::string(source->container()),
                 .architecture = architecture_of(*source),
                 .notes = source->notes()};
  const bool reversed = !source->metadata().entries().empty();  // GGUF: fastest first
  for (const TensorInfo& tensor : source->tensors()) {
    InspectedTensor each{tensor.name, tensor.shape, std::string(tensor.format->id()), tensor.bytes};
    if (reversed) std::reverse(each.shape.begin(), each.shape.end());
    out.parameters += tensor.elements();
    out.tensor_bytes += tensor.bytes;
    out.tensors.push_back(std::move(each));
  }
  for (const std::string& file : out.files) {
    std::error_code error;
    const auto bytes = std::filesystem::file_size(file, error);
    if (error) return fail(ErrorCode::io, "{}: {}", file, error.message());
    out.bytes += bytes;
  }
  if (out.parameters > 0)
    out.bits_per_weight = 8.0 * double(out.tensor_bytes) / double(out.parameters);
  for (const Metadata::Entry& entry : source->metadata().entries())
    out.metadata.push_back(field_of(entry, array_limit));
  return out;
}

}  // namespace nibble
