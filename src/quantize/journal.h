// What an interrupted run had finished, so that the next one goes on from there.
//
// A file of JSON objects beside the output, a line each: first what the run was about (a hash of
// everything that its bytes depend on), then what was measured of each matrix for a budget and what
// the budget decided, then a line for every tensor whose bytes are in the unfinished output, with
// their hash. A line that is cut off is not there.
#pragma once

#include <cstdio>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "base/json.h"

namespace nibble {

class Journal {
 public:
  /// Reads what is there of a run with the same `job` at `path`, else starts afresh. Error: the
  /// file cannot be written.
  static Result<Journal> open(const std::string& path, const std::string& job);

  bool empty() const { return !filled_; }
  bool resumed() const { return resumed_; }       // an earlier run left something
  const Json& budget() const { return budget_; }  // null: not decided
  /// What was measured of a matrix; null: nothing.
  const Json* measured(const std::string& name) const;
  /// What is known of a finished tensor; null: it is not finished.
  const Json* find(std::size_t tensor) const;

  Status add_measured(const std::string& name, Json measured);
  Status set_budget(Json budget);
  /// `record` as find() will give it back, with the hash of the tensor's bytes. Thread-safe against
  /// nothing: one thread appends.
  Status add(std::size_t tensor, Json record);
  /// What was said of a tensor does not hold.
  void forget(std::size_t tensor) { tensors_.erase(tensor); }
  void remove();  // the run is complete

 private:
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  void read(const std::string& job);
  Status append(const Json& line);

  std::string path_;
  std::unique_ptr<std::FILE, Close> file_;
  Json budget_;
  std::map<std::string, Json> measured_;
  std::map<std::size_t, Json> tensors_;
  bool resumed_ = false;
  bool filled_ = false;     // says more than what the run is about
  std::uint64_t good_ = 0;  // bytes of the file that can be used
};

}  // namespace nibble
