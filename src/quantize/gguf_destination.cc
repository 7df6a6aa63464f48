#include "base/file.h"
#include "quantize/destination.h"
#include "quantize/verify.h"

namespace nibble {
namespace {

class GgufDestination final : public Destination {
 public:
  GgufDestination(const Job& job, const QuantizeOptions& options) : job_(job), options_(options) {}

  Result<std::uint64_t> bytes() const override {
    return gguf_bytes(job_.metadata, planned_tensors(job_.plan), {options_.split_bytes});
  }

  Result<Writer*> create(bool resume) override {
    NIBBLE_TRY(writer_, create_gguf(options_.output, job_.metadata, planned_tensors(job_.plan),
                                    {.split_bytes = options_.split_bytes, .resume = resume}));
    return writer_.get();
  }

  Status complete(QuantizeReport&, ThreadPool& pool, Progress&) override {
    NIBBLE_DO(writer_->replace(job_.metadata));
    return verify_gguf(writer_->parts(), planned_tensors(job_.plan), pool);
  }

 private:
  const Job& job_;
  const QuantizeOptions& options_;
  std::unique_ptr<GgufWriter> writer_;
};

}  // namespace

std::unique_ptr<Destination> gguf_destination(const Job& job, const QuantizeOptions& options) {
  return std::make_unique<GgufDestination>(job, options);
}

}  // namespace nibble
