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

bool turns(const std::vector<const Transform*>& transforms, Channels channels);

/// Makes `model` one that the transforms can be applied to: for a turn of the residual stream the
/// head needs a tensor of its own. Error: its residual stream cannot be turned.
Status untie(Model& model, const std::vector<const Transform*>& transforms);

/// Bytes of the largest matrix that the model holds whole once the transforms have turned its rows.
std::uint64_t turned_bytes(const Model& model, const std::vector<const Transform*>& transforms);

/// Rescales and turns the weights of `model`, which untie() has seen, along its folds and turns,
/// one transform after the other, and checks that its embedding, every block and its head still
/// make the same of a window of the text, the residual stream turned. Errors: they do not.
Status rewrite(Model& model, const std::vector<const Transform*>& transforms, const Corpus& corpus,
               const RewriteOptions& options, Progress& progress);

}  // namespace nibble
