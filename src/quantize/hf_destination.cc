#include <filesystem>

#include "base/file.h"
#include "container/hf_writer.h"
#include "quantize/card.h"
#include "quantize/destination.h"
#include "quantize/quality.h"
#include "quantize/verify.h"

namespace nibble {
namespace {

class HfDestination final : public Destination {
 public:
  HfDestination(const Job& job, const QuantizeOptions& options) : job_(job), options_(options) {}

  Result<std::uint64_t> bytes() const override {
    NIBBLE_TRY(const HfDirectory directory, describe());
    return hf_bytes(directory, {options_.split_bytes});
  }

  Result<Writer*> create(bool resume) override {
    NIBBLE_TRY(const HfDirectory directory, describe());
    NIBBLE_TRY(writer_, create_hf(options_.output, directory,
                                  {.split_bytes = options_.split_bytes, .resume = resume}));
    return writer_.get();
  }

  Status complete(QuantizeReport& report, ThreadPool& pool, Progress& progress) override {
    NIBBLE_TRY(const std::string path, writer_->seal());
    NIBBLE_DO(verify_hf(path, job_.plan, pool));
    auto quality = measure_quality(job_, options_, path, progress);
    if (!quality && quality.error().code() == ErrorCode::cancelled)
      return tl::unexpected<Error>(quality.error());
    if (quality)
      report.quality = *quality;
    else
      progress.note("quality is not measured: " + quality.error().message());
    return write_text((std::filesystem::path(path) / "README.md").string(),
                      model_card(job_, options_, report));
  }

 private:
  Result<HfDirectory> describe() const {
    const Model* model = job_.checkpoint->model();
    if (!model || !std::filesystem::is_directory(options_.source))
      return fail(ErrorCode::unsupported,
                  "{}: --to {} takes over the config and tokenizer files of a Hugging Face "
                  "directory; give one as the source",
                  options_.source, job_.plan.target.text);
    HfDirectory out{
        .source = options_.source, .tensors = {}, .packer = job_.plan.target.packer.get()};
    bool head = false;
    for (std::size_t i = 0; i < job_.plan.tensors.size(); ++i) {
      const PlannedTensor& planned = job_.plan.tensors[i];
      Model::Stored stored = model->stored_as(i);
      HfTensor tensor{.info = planned.tensor,
                      .packed = planned.tensor.format == &out.packer->format(),
                      .rows = std::move(stored.rows)};
      tensor.info.name = std::move(stored.name);
      out.untied |= !tensor.info.name.empty() && !model->source().find(tensor.info.name);
      const Role role = role_of(planned.tensor.name);
      head |= role == Role::output;
      if (planned.quantizable && !tensor.packed && role != Role::embedding)
        out.kept.push_back(module_of(tensor.info.name));
      out.tensors.push_back(std::move(tensor));
    }
    if (!head) out.kept.push_back("lm_head");  // tied to the embedding, but a linear layer there
    return out;
  }

  static std::string module_of(const std::string& weight) {
    return weight.substr(0, weight.rfind('.'));
  }

  const Job& job_;
  const QuantizeOptions& options_;
  std::unique_ptr<HfWriter> writer_;
};

}  // namespace

std::unique_ptr<Destination> hf_destination(const Job& job, const QuantizeOptions& options) {
  return std::make_unique<HfDestination>(job, options);
}

}  // namespace nibble
