#include "quantize/journal.h"

#include <sys/file.h>
#include <unistd.h>

#include "base/file.h"

namespace nibble {
namespace {

constexpr std::uint64_t kMostBytes = 64u << 20;  // of a journal: a few hundred a tensor

tl::unexpected<Error> cannot_write(const std::string& path) {
  return system_error(path, "cannot write the journal");
}

}  // namespace

void Journal::read(const std::string& job) {
  const auto text = read_text(path_, kMostBytes);
  if (!text) return;
  bool first = true;
  for (std::size_t begin = 0, end; (end = text->find('\n', begin)) != text->npos; begin = end + 1) {
    const auto line = parse_json(std::string_view(*text).substr(begin, end - begin));
    if (!line || !line->is_object()) return;
    if (first && (!line->contains("job") || (*line)["job"] != job)) return;
    if (const auto name = json_string(*line, "matrix"); name && line->contains("measured"))
      measured_[*name] = (*line)["measured"];
    if (const auto budget = line->find("budget"); budget != line->end()) budget_ = *budget;
    if (const auto tensor = json_uint(*line, "tensor"); tensor && line->contains("record"))
      tensors_[std::size_t(*tensor)] = (*line)["record"];
    filled_ |= !first;
    first = false;
    good_ = end + 1;
  }
}

Result<Journal> Journal::open(const std::string& path, const std::string& job) {
  Journal out;
  out.path_ = path;
  out.file_.reset(std::fopen(path.c_str(), "ab"));
  if (!out.file_) return cannot_write(path);
  if (::flock(::fileno(out.file_.get()), LOCK_EX | LOCK_NB) != 0)
    return fail(ErrorCode::io, "{}: another program is writing it; wait for that to end", path);
  out.read(job);  // only now nobody else writes it
  out.resumed_ = out.filled_;
  if (::ftruncate(::fileno(out.file_.get()), off_t(out.good_)) != 0) return cannot_write(path);
  if (out.good_ == 0) NIBBLE_DO(out.append({{"job", job}}));
  return out;
}

const Json* Journal::find(std::size_t tensor) const {
  const auto found = tensors_.find(tensor);
  return found == tensors_.end() ? nullptr : &found->second;
}

const Json* Journal::measured(const std::string& name) const {
  const auto found = measured_.find(name);
  return found == measured_.end() ? nullptr : &found->second;
}

Status Journal::append(const Json& line) {
  const std::string text = line.dump() + "\n";
  if (std::fwrite(text.data(), 1, text.size(), file_.get()) == text.size() &&
      std::fflush(file_.get()) == 0)
    return {};
  return cannot_write(path_);
}

Status Journal::add_measured(const std::string& name, Json measured) {
  filled_ = true;
  return append({{"matrix", name}, {"measured", std::move(measured)}});
}

Status Journal::set_budget(Json budget) {
  filled_ = true;
  budget_ = std::move(budget);
  return append({{"budget", budget_}});
}

Status Journal::add(std::size_t tensor, Json record) {
  filled_ = true;
  return append({{"tensor", tensor}, {"record", std::move(record)}});
}

void Journal::remove() {
  file_.reset();
  ::unlink(path_.c_str());
}

}  // namespace nibble
