#include <cstdio>
#include <cstdlib>

#include "base/result.h"
#include "nibble/progress.h"
#include "nibble/version.h"

namespace nibble {
namespace {

class NoProgress final : public Progress {
  void begin(std::string_view, std::uint64_t, std::string_view) override {}
  void update(std::uint64_t) override {}
  void end() override {}
  void note(std::string_view) override {}
};

}  // namespace

Progress& no_progress() {
  static NoProgress none;
  return none;
}

std::string_view version() { return NIBBLE_VERSION; }

void check_failed(const char* condition, const char* file, int line) {
  std::fprintf(stderr, "nibble: internal error: %s at %s:%d\n", condition, file, line);
  std::abort();
}

}  // namespace nibble
