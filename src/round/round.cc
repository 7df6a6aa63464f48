#include "round/rounder.h"

namespace nibble {

const Rounder* find_rounder(std::string_view id) {
  for (const Rounder* rounder : round_registry())
    if (rounder->id() == id) return rounder;
  return nullptr;
}

}  // namespace nibble
