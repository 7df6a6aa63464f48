// Which format each matrix gets so that a model fits a number of bytes and loses least, or loses no
// more than is allowed in the fewest bytes.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "format/format.h"

namespace nibble {

/// One format that a matrix could have. Losses of matrices add up to that of the model (nats a
/// token, where they are estimates of KL divergence).
struct Choice {
  const Format* format;
  std::uint64_t bytes;
  double loss;  // finite, not negative
};

struct Candidates {
  std::string name;             // of the matrix
  std::vector<Choice> choices;  // at least one
};

/// One choice for every matrix, in their order.
struct Assignment {
  std::vector<Choice> choices;
  std::uint64_t bytes = 0;
  double loss = 0;
};

/// The assignments along the lower convex hull, by growing size: each is the best for its bytes,
/// and the next differs from it in one matrix.
class Frontier {
 public:
  explicit Frontier(std::vector<Candidates> matrices);

  struct Point {
    std::uint64_t bytes;
    double loss;
  };
  const std::vector<Point>& points() const { return points_; }
  const std::vector<Candidates>& matrices() const { return matrices_; }

  /// The least loss within `bytes`: the last point that fits, and what else then fits into the
  /// rest. Error: even the smallest is larger; says how large.
  Result<Assignment> within(std::uint64_t bytes) const;
  /// The fewest bytes whose loss is at most `loss`. Error: even the best loses more.
  Result<Assignment> losing(double loss) const;

 private:
  struct Step {
    std::size_t matrix, choice;  // this matrix changes to this choice
    double slope;                // loss saved a byte
  };
  Assignment at(std::size_t steps) const;

  std::vector<Candidates> matrices_;
  std::vector<std::size_t> first_;  // the smallest choice of each matrix
  std::vector<Step> steps_;         // steepest first
  std::vector<Point> points_;       // before any step, after the first, ...
};

}  // namespace nibble
