// Recipes: `[transform+]rounding[:target]`, for example `nearest`, `importance:q4_k`,
// `awq+gptq:Q4_K_M`.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace nibble {

struct Recipe {
  std::vector<std::string> transforms;
  std::string rounding;
  std::string target;  // level or format; empty: not stated
};

/// Only the form is checked here; names are looked up by whoever runs the recipe.
Result<Recipe> parse_recipe(std::string_view text);
std::string to_string(const Recipe& recipe);

}  // namespace nibble
