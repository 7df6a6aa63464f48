// REGEX=FORMAT on the first line, a tensor name on the second: matching ends, in time linear in
// both.
#include <string_view>

#include "plan/plan.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto end = text.find('\n');
  const auto override = nibble::parse_override(text.substr(0, end));
  if (override && end != text.npos) (void) override->pattern.search(text.substr(end + 1, 64));
  return 0;
}
