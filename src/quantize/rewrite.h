// Applies the transforms of a recipe to a model.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "arch/arch.h"
#include "calib/corpus.h"
#include "nibble/progress.h"
#include "transform/transform.h"

namespace nibble {

struct RewriteOptions {
  std::string source;  // path of the model, to compare with
  std::string folder;  // where activations wait; empty: in memory
  int threads = 0;
  std::map<std::string, const Format*> formats;  // that the matrices will have
  const Rounder* rounder = nullptr;
};

/// Rescales and turns the weights of `model` along its folds and turns, one transform after the
/// other, and checks that every block still makes the same of a window of the text. Errors: it does
/// not.
Status rewrite(Model& model, const std::vector<const Transform*>& transforms, const Corpus& corpus,
               const RewriteOptions& options, Progress& progress);

}  // namespace nibble
