#include "transform/transform.h"

namespace nibble {

const Transform* find_transform(std::string_view id) {
  for (const Transform* transform : transform_registry())
    if (transform->id() == id) return transform;
  return nullptr;
}

}  // namespace nibble
