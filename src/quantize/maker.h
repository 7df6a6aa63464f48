// Makes the bytes of every tensor of a job.
#pragma once

#include "base/threads.h"
#include "container/writer.h"
#include "quantize/job.h"

namespace nibble {

/// Hands every tensor to `writer` and fills the reports, one a tensor. What the job's journal says
/// was finished is taken from what `writer` has of it, if that is still so.
Status make_tensors(Job& job, int threads, ThreadPool& pool, Writer& writer, QuantizeReport& report,
                    Progress& progress);

}  // namespace nibble
