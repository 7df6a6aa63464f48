#include "quantize/checkpoint.h"

#include <algorithm>
#include <cstring>

#include "arch/arch.h"
#include "text/tokenizer.h"

namespace nibble {
namespace {

/// Numbers that differ from layer to layer are stored as arrays: the first one stands for all.
int first_number(const Metadata& metadata, const std::string& key) {
  const MetaValue* value = metadata.find(key);
  if (!value) return 0;
  if (const auto* many = std::get_if<std::vector<std::int32_t>>(value))
    return many->empty() ? 0 : many->front();
  if (const auto* many = std::get_if<std::vector<std::uint32_t>>(value))
    return many->empty() ? 0 : int(std::min<std::uint32_t>(many->front(), 1u << 20));
  const auto number = metadata.uint(key);
  return number ? int(std::min<std::uint64_t>(*number, 1u << 20)) : 0;
}

}  // namespace

PlanInput plan_input_of(const Metadata& metadata, std::vector<TensorInfo> tensors) {
  PlanInput input;
  if (const auto arch = metadata.text("general.architecture")) input.arch = *arch;
  const auto number = [&](const char* key) {
    return first_number(metadata, input.arch + "." + key);
  };
  input.layers = number("block_count");
  input.heads = number("attention.head_count");
  input.kv_heads = number("attention.head_count_kv");
  if (input.kv_heads == 0) input.kv_heads = input.heads;
  input.experts = number("expert_count");
  input.tensors = std::move(tensors);
  return input;
}

namespace {

class GgufCheckpoint final : public Checkpoint {
 public:
  explicit GgufCheckpoint(std::unique_ptr<Source> source)
      : source_(std::move(source)),
        plan_input_(plan_input_of(source_->metadata(), source_->tensors())) {}

  const Source& source() const override { return *source_; }
  const PlanInput& plan_input() const override { return plan_input_; }
  Result<Metadata> metadata() const override {
    Metadata metadata = source_->metadata();
    for (const auto& [key, value] : source_->metadata().entries())
      if (key.starts_with("split.")) metadata.erase(key);
    return metadata;
  }

  void load_rows(std::size_t index, std::uint64_t begin, std::uint64_t end,
                 float* out) const override {
    const TensorInfo& tensor = tensors()[index];
    const std::size_t row = tensor.format->row_bytes(tensor.columns());
    tensor.format->decode(
        source_->data(stored(index)).data() + begin * row,
        (end - begin) * (tensor.columns() / std::uint64_t(tensor.format->block())), out);
  }
  void load_bytes(std::size_t index, std::uint64_t begin, std::uint64_t end,
                  std::byte* out) const override {
    const std::size_t row = tensors()[index].format->row_bytes(tensors()[index].columns());
    std::memcpy(out, source_->data(stored(index)).data() + begin * row, (end - begin) * row);
  }
  bool keeps_values(std::size_t) const override { return true; }
  void untie_head() override {
    const auto embedding = source_->find(kEmbedding);
    const auto& names = plan_input_.tensors;
    if (!embedding || std::ranges::find(names, kHead, &TensorInfo::name) != names.end()) return;
    plan_input_.tensors.push_back(source_->tensors()[*embedding]);
    plan_input_.tensors.back().name = kHead;
  }
  void release(std::size_t index, std::uint64_t begin, std::uint64_t end) const override {
    const std::size_t row = tensors()[index].format->row_bytes(tensors()[index].columns());
    source_->release(stored(index), begin * row, (end - begin) * row);
  }

 private:
  static constexpr char kEmbedding[] = "token_embd.weight", kHead[] = "output.weight";

  /// Only a head that was untied is not in the source.
  std::size_t stored(std::size_t index) const {
    return index < source_->tensors().size() ? index : *source_->find(kEmbedding);
  }

  std::unique_ptr<Source> source_;
  PlanInput plan_input_;
};

class ModelCheckpoint final : public Checkpoint {
 public:
  explicit ModelCheckpoint(Model model)
      : model_(std::move(model)),
        plan_input_(plan_input_of(gguf_metadata(model_), model_.tensors())) {}

  const Source& source() const override { return model_.source(); }
  const PlanInput& plan_input() const override { return plan_input_; }
  const Model* model() const override { return &model_; }
  Result<Metadata> metadata() const override {
    if (metadata_.entries().empty()) {
      Metadata metadata = gguf_metadata(model_);
      NIBBLE_TRY_IN(source().path(), const Tokenizer tokenizer, Tokenizer::open(source()));
      NIBBLE_DO_IN(source().path(), tokenizer.to_gguf(metadata, model_.config().vocab));
      metadata_ = std::move(metadata);
    }
    return metadata_;
  }

  void load_rows(std::size_t index, std::uint64_t begin, std::uint64_t end,
                 float* out) const override {
    model_.load_rows(index, begin, end, out);
  }
  void load_bytes(std::size_t index, std::uint64_t begin, std::uint64_t end,
                  std::byte* out) const override {
    model_.load_bytes(index, begin, end, out);
  }
  bool keeps_values(std::size_t index) const override { return model_.keeps_values(index); }
  void untie_head() override {
    model_.untie_head();
    plan_input_.tensors = model_.tensors();
  }
  void release(std::size_t index, std::uint64_t begin, std::uint64_t end) const override {
    model_.release_rows(index, begin, end);
  }

 private:
  Model model_;
  PlanInput plan_input_;
  mutable Metadata metadata_;  // read once: vocabularies are large
};

/// A checkpoint with other values.
class ChangedCheckpoint : public Checkpoint {
 public:
  explicit ChangedCheckpoint(std::unique_ptr<Checkpoint> stored) : stored_(std::move(stored)) {}

  const Source& source() const override { return stored_->source(); }
  const PlanInput& plan_input() const override { return stored_->plan_input(); }
  const Model* model() const override { return stored_->model(); }
  Result<Metadata> metadata() const override { return stored_->metadata(); }
  void load_bytes(std::size_t index, std::uint64_t begin, std::uint64_t end,
                  std::byte* out) const override {
    stored_->load_bytes(index, begin, end, out);
  }
  bool keeps_values(std::size_t index) const override { return stored_->keeps_values(index); }
  void untie_head() override { stored_->untie_head(); }
  void release(std::size_t index, std::uint64_t begin, std::uint64_t end) const override {
    stored_->release(index, begin, end);
  }

 protected:
  const Checkpoint& stored() const { return *stored_; }

 private:
  std::unique_ptr<Checkpoint> stored_;
};

class RewrittenCheckpoint final : public ChangedCheckpoint {
 public:
  RewrittenCheckpoint(std::unique_ptr<Checkpoint> stored, const Model& model)
      : ChangedCheckpoint(std::move(stored)), model_(model) {}

  void load_rows(std::size_t index, std::uint64_t begin, std::uint64_t end,
                 float* out) const override {
    model_.load_rows(*model_.find(tensors()[index].name), begin, end, out);
  }
  bool keeps_values(std::size_t index) const override {
    return stored().keeps_values(index) && model_.keeps_values(*model_.find(tensors()[index].name));
  }

 private:
  const Model& model_;
};

class StoredCheckpoint final : public ChangedCheckpoint {
 public:
  explicit StoredCheckpoint(std::unique_ptr<Checkpoint> checkpoint)
      : ChangedCheckpoint(std::move(checkpoint)) {
    for (std::size_t i = 0; i < tensors().size(); ++i)
      added_.push_back(model()->stored_as(i).added);
  }

  void load_rows(std::size_t index, std::uint64_t begin, std::uint64_t end,
                 float* out) const override {
    stored().load_rows(index, begin, end, out);
    const std::uint64_t count = added_[index] == 0 ? 0 : (end - begin) * tensors()[index].columns();
    for (std::uint64_t i = 0; i < count; ++i) out[i] -= added_[index];
  }

 private:
  std::vector<float> added_;  // by GGUF
};

bool known_arch(const Metadata& metadata) {
  const auto id = metadata.text("general.architecture");
  const auto all = arch_registry();
  return id && std::any_of(all.begin(), all.end(), [&](const Arch* a) { return a->id() == *id; });
}

}  // namespace

Result<std::unique_ptr<Checkpoint>> Checkpoint::open(const std::string& path) {
  NIBBLE_TRY(auto source, open_source(path));
  if (source->tensors().empty())
    return fail(ErrorCode::invalid, "{}: holds no tensors; give a file or directory with weights",
                path);
  if (source->metadata().entries().empty()) {
    NIBBLE_TRY(Model model, Model::from(std::move(source)));
    return std::make_unique<ModelCheckpoint>(std::move(model));
  }
  if (known_arch(source->metadata())) NIBBLE_DO(Model::open(path));  // shapes fit the architecture
  return std::make_unique<GgufCheckpoint>(std::move(source));
}

std::unique_ptr<Checkpoint> as_stored(std::unique_ptr<Checkpoint> checkpoint) {
  return std::make_unique<StoredCheckpoint>(std::move(checkpoint));
}

std::unique_ptr<Checkpoint> rewritten(std::unique_ptr<Checkpoint> checkpoint, const Model& model) {
  return std::make_unique<RewrittenCheckpoint>(std::move(checkpoint), model);
}

}  // namespace nibble
