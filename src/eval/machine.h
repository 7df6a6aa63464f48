// What a machine can do at best.
#pragma once

#include "base/threads.h"
#include "nibble/benchmark.h"

namespace nibble {

/// Takes a fifth of a second and 256 MB.
MachineSpeed measure_machine(ThreadPool& pool);

}  // namespace nibble
