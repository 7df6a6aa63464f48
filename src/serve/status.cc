#include <unistd.h>

#include <fstream>

#include "nibble/version.h"
#include "serve/nibble.h"

namespace nibble {
namespace {

std::uint64_t resident_bytes() {
  std::uint64_t all = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> all >> resident;
  return resident * std::uint64_t(::sysconf(_SC_PAGESIZE));
}

std::uint64_t machine_bytes() {
  return std::uint64_t(::sysconf(_SC_PHYS_PAGES)) * std::uint64_t(::sysconf(_SC_PAGESIZE));
}

Json about(const ModelEntry& entry) {
  Json out = {{"name", entry.name},
              {"file_bytes", entry.file_bytes},
              {"memory_bytes", entry.needed},
              {"parameters", entry.parameters},
              {"format", entry.format},
              {"context", entry.context},
              {"chat", !entry.chat_template.empty()},
              {"loaded", entry.loaded != nullptr}};
  if (!entry.loaded) return out;
  const SchedulerCounts counts = entry.loaded->scheduler().counts();
  out.update({{"memory_bytes", entry.loaded->bytes()},
              {"context", entry.loaded->context()},
              {"active", counts.active},
              {"waiting", counts.waiting},
              {"prompt_tokens_per_second", counts.prompt_rate},
              {"tokens_per_second", counts.generated_rate}});
  return out;
}

}  // namespace

ServerReply nibble_status(const ModelTable& models) {
  Json list = Json::array();
  for (const ModelEntry& entry : models.entries()) list.push_back(about(entry));
  ServerReply reply = json_reply({{"version", version()},
                                  {"resident_bytes", resident_bytes()},
                                  {"machine_bytes", machine_bytes()},
                                  {"models", std::move(list)}});
  reply.headers.emplace_back("Cache-Control", "no-store");
  return reply;
}

}  // namespace nibble
