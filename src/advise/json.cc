// Advice for programs.
#include "base/json.h"

#include "nibble/advise.h"

namespace nibble {
namespace {

OrderedJson to_json(const Machine& machine) {
  return {{"isa", machine.isa},
          {"cores", machine.cores},
          {"threads", machine.threads},
          {"memory_bytes", machine.memory_bytes},
          {"free_bytes", machine.free_bytes},
          {"bytes_per_second", machine.speed.bytes_per_second},
          {"int8_operations_per_second", machine.speed.int8_operations_per_second},
          {"gpus", machine.gpus}};
}

OrderedJson to_json(const AdvisedLevel& level) {
  OrderedJson out = {{"level", level.name},
                     {"fits", level.fits},
                     {"file_bytes", level.file_bytes},
                     {"bits_per_weight", level.bits_per_weight},
                     {"other_formats", level.other_formats},
                     {"memory_bytes", level.memory.total()},
                     {"memory",
                      {{"weights", level.memory.weights},
                       {"cache", level.memory.cache},
                       {"work", level.memory.work},
                       {"program", level.memory.program}}}};
  if (const auto& s = level.speed)
    out.update({{"prefill_tokens_per_second", s->prefill},
                {"decode_tokens_per_second", s->decode},
                {"decode_full_tokens_per_second", s->decode_full}});
  if (const auto& l = level.loss)
    out["loss"] = {{"kld_mean", l->kld},
                   {"kld_mean_se", l->kld_se},
                   {"same_top", l->same_top},
                   {"own", l->own},
                   {"origin", l->origin}};
  return out;
}

}  // namespace

std::string advice_json(const Advice& advice) {
  OrderedJson out = {{"source", advice.source},
                     {"architecture", advice.architecture},
                     {"parameters", advice.parameters},
                     {"runs", advice.runs},
                     {"for", name_of(advice.purpose)},
                     {"context", advice.context},
                     {"memory_bytes", advice.memory_bytes},
                     {"machine", to_json(advice.machine)},
                     {"rule", advice.rule},
                     {"levels", OrderedJson::array()},
                     {"notes", advice.notes}};
  if (advice.recommended) out["recommended"] = advice.levels[*advice.recommended].name;
  for (const AdvisedLevel& level : advice.levels) out["levels"].push_back(to_json(level));
  return out.dump(2, ' ', false, OrderedJson::error_handler_t::replace);
}

}  // namespace nibble
