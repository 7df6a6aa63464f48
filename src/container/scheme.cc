#include "container/scheme.h"

#include <algorithm>
#include <charconv>
#include <numeric>

#include "base/utf8.h"

namespace nibble {

void PackedTensor::read(std::uint64_t begin, std::uint64_t end, std::byte* out) const {
  const Format& format = *info_.format;
  const std::uint64_t blocks = info_.columns() / std::uint64_t(format.block());
  Code codes[kMaxBlock];
  for (std::uint64_t row = begin; row < end; ++row)
    for (std::uint64_t b = 0; b < blocks; ++b, out += format.spec().bytes) {
      Grid grid;
      block(row, b, grid, codes);
      format.pack(grid, codes, out);
    }
}

std::uint64_t PartInfo::bytes() const {
  std::uint64_t bytes = dtype->bytes;
  for (const std::uint64_t extent : shape)
    bytes *= extent;  // a part of what stored_bytes() allowed
  return bytes;
}

PackingText::PackingText(std::string_view text) : text_(text) {
  std::string_view rest = text_;
  const auto next = [&rest] {
    const auto end = std::min(rest.find('-', rest.starts_with("g-") ? 2 : 0), rest.size());
    const std::string_view word = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    return word;
  };
  type_ = next();
  while (!rest.empty()) options_.push_back(next());
}

bool PackingText::take(std::string_view option) {
  const auto found = std::ranges::find(options_, option);
  if (found == options_.end()) return false;
  options_.erase(found);
  return true;
}

Result<std::uint64_t> PackingText::take_group(std::uint64_t otherwise) {
  const auto found =
      std::ranges::find_if(options_, [](std::string_view o) { return o.starts_with('g'); });
  if (found == options_.end()) return otherwise;
  const std::string_view text = found->substr(1);
  options_.erase(found);
  if (text == "channel" || text == "-1") return 0;
  std::uint64_t group = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), group);
  if (error != std::errc() || end != text.data() + text.size() ||
      (group != 32 && group != 64 && group != 128))
    return fail(ErrorCode::invalid, "'{}': groups are g32, g64, g128 or gchannel", text_);
  return group;
}

Status PackingText::done() const {
  if (options_.empty()) return {};
  return fail(ErrorCode::invalid, "'{}': '{}' is no option of {}", text_, options_.front(), type_);
}

const Scheme* find_scheme(std::string_view name) {
  for (const Scheme* scheme : scheme_registry())
    if (scheme->id() == name || scheme->name() == name) return scheme;
  return nullptr;
}

const Json* Scheme::settings(const Json& config) const {
  const auto found = config.find("quantization_config");
  if (found == config.end() || !found->is_object()) return nullptr;
  const auto method = found->find("quant_method");
  return method != found->end() && *method == std::string(id()) ? &*found : nullptr;
}

Result<const Format*> integer_format(const Integers& integers) {
  const std::uint64_t group = integers.group == 0 ? integers.columns : integers.group;
  std::string id = fmt::format("int{}", integers.bits);
  if (group >= integers.columns)
    id += "_row";
  else if (group % 128 == 0)
    id += "_g128";
  else if (group == 64 || group == 32)
    id += fmt::format("_g{}", group);
  else
    return fail(ErrorCode::unsupported,
                "groups of {} columns; nibble reads 32, 64 and multiples of 128", group);
  if (integers.zero_point) id += "_zp";
  if (integers.scales->name == "BF16") id += "_bf16";
  if (integers.scales->name == "F32") id += "_f32";
  const Format* format = find_format(id);
  if (format) return format;
  return fail(ErrorCode::unsupported, "integers of {} bits; nibble reads 2, 3, 4 and 8",
              integers.bits);
}

Result<TensorInfo> matrix_info(const std::string& weight, std::uint64_t rows, std::uint64_t columns,
                               const Format& format) {
  TensorInfo info{.name = weight, .shape = {rows, columns}, .format = &format};
  NIBBLE_TRY(info.bytes, stored_bytes(format, info.shape));
  return info;
}

Result<ColumnOrder> order_of_groups(const RawTensor& group_of, std::uint64_t group) {
  const std::uint64_t columns = group_of.shape[0];
  std::vector<std::uint64_t> count((columns + group - 1) / group);
  bool own = true;
  for (std::uint64_t j = 0; j < columns; ++j) {
    const std::uint32_t of = word_at(group_of, j);
    if (of >= count.size())
      return fail(ErrorCode::corrupt, "tensor {}: column {} is of group {}, there are {}",
                  quote(group_of.name), j, of, count.size());
    ++count[of];
    own &= of == j / group;
  }
  if (own) return ColumnOrder();
  for (std::uint64_t g = 0; g < count.size(); ++g)
    if (count[g] != std::min(group, columns - g * group))
      return fail(ErrorCode::corrupt, "tensor {}: {} columns are of group {}, expected {}",
                  quote(group_of.name), count[g], g, group);
  std::vector<std::uint32_t> order(columns);
  std::iota(order.begin(), order.end(), 0u);
  std::ranges::stable_sort(order, {}, [&](std::uint32_t j) { return word_at(group_of, j); });
  return std::make_shared<const std::vector<std::uint32_t>>(std::move(order));
}

std::optional<std::string> stem_of(const std::string& name, std::string_view ending) {
  if (!name.ends_with(ending) || name.size() == ending.size()) return std::nullopt;
  return name.substr(0, name.size() - ending.size());
}

}  // namespace nibble
