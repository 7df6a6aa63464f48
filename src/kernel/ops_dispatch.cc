#include <span>

#include "base/cpu.h"
#include "kernel/ops.h"

namespace nibble {

std::span<const Ops* const> ops_registry();

const Ops& ops() {
  static const Ops* const chosen = [] {
    const std::string_view isa = active_isa().empty() ? "scalar" : active_isa();
    const Ops* found = ops_registry().front();
    for (const Ops* candidate : ops_registry())
      if (candidate->isa == isa) found = candidate;
    return found;
  }();
  return *chosen;
}

}  // namespace nibble
