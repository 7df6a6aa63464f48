// What a Runtime holds and a Session executes (inner header of graph/).
#pragma once

#include <string>
#include <unordered_map>

#include "graph/rope.h"
#include "graph/runtime.h"

namespace nibble {

/// A node with its weights found.
struct Step {
  const Node* node;
  const Matrix* matrix = nullptr;  // embed, linear
  const float* vector = nullptr;   // norm: weight; linear: bias or null
  bool fresh = true;               // linear: the first reader of its tap
};

struct Runtime::State {
  State(Graph g, int threads) : graph(std::move(g)), pool(threads) {}

  /// Finds the weights of nodes and appends them to `steps`.
  void compile(const std::vector<Node>& nodes, std::vector<Step>& steps) const;
  /// All weights are there: makes the steps of the graph, or of one block (< 0: all).
  void connect(int block);

  std::string path;  // of the model, for errors
  Graph graph;
  Precision precision = Precision::fast;
  const CacheOps* cache = nullptr;
  ThreadPool pool;
  std::unordered_map<std::string, Matrix> matrices;
  std::unordered_map<std::string, std::vector<float>> vectors;
  std::vector<Step> layers;         // embedding and blocks
  std::vector<std::size_t> begins;  // of the blocks in `layers`; one more at the end
  std::vector<Step> after;          // final norm and head
  RopeTable rope, local_rope;
};

}  // namespace nibble
