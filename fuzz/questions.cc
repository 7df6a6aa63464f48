// Questions for both kinds of evaluation, one JSON object a line. There is no model to ask, so an
// evaluation ends once the questions are read.
#include <sys/mman.h>
#include <unistd.h>

#include "base/result.h"
#include "nibble/evaluate.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const int file = ::memfd_create("questions", 0);
  NIBBLE_CHECK(file >= 0 && ::write(file, data, size) == ::ssize_t(size));
  const nibble::TaskOptions options{.model = "/none.gguf",
                                    .file = "/proc/self/fd/" + std::to_string(file)};
  NIBBLE_CHECK(!nibble::evaluate_task(options));
  NIBBLE_CHECK(!nibble::evaluate_choices(options));
  ::close(file);
  return 0;
}
