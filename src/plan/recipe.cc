#include "plan/recipe.h"

namespace nibble {

Result<Recipe> parse_recipe(std::string_view text) {
  Recipe recipe;
  std::string_view rest = text;
  const auto colon = rest.find(':');
  if (colon != rest.npos) {
    recipe.target = rest.substr(colon + 1);
    rest = rest.substr(0, colon);
  }
  for (auto plus = rest.find('+'); plus != rest.npos; plus = rest.find('+')) {
    recipe.transforms.emplace_back(rest.substr(0, plus));
    rest.remove_prefix(plus + 1);
  }
  recipe.rounding = rest;
  bool complete = !recipe.rounding.empty() && (colon == text.npos || !recipe.target.empty());
  for (const std::string& transform : recipe.transforms) complete &= !transform.empty();
  if (!complete)
    return fail(ErrorCode::invalid,
                "recipe '{}': expected [transform+]rounding[:level or format], "
                "for example importance:Q4_K_M",
                text);
  return recipe;
}

std::string to_string(const Recipe& recipe) {
  std::string text;
  for (const std::string& transform : recipe.transforms) text += transform + "+";
  text += recipe.rounding;
  if (!recipe.target.empty()) text += ":" + recipe.target;
  return text;
}

}  // namespace nibble
