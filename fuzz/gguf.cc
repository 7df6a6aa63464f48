// A GGUF header, and if it is sound, the whole model that it describes.
#include "arch/arch.h"
#include "container/gguf_parse.h"

namespace {

/// A GGUF in memory. Headers are checked against the size of the file, so every tensor lies inside.
class MemorySource final : public nibble::Source {
 public:
  MemorySource(nibble::GgufHeader header, std::span<const std::byte> bytes)
      : header_(std::move(header)), bytes_(bytes) {}

  const std::string& path() const override { return path_; }
  std::string_view container() const override { return "gguf"; }
  std::vector<std::string> files() const override { return {path_}; }
  const std::vector<nibble::TensorInfo>& tensors() const override { return header_.tensors; }
  std::span<const std::byte> data(std::size_t index) const override {
    return bytes_.subspan(header_.offsets[index], header_.tensors[index].bytes);
  }
  void release(std::size_t, std::uint64_t, std::uint64_t) const override {}
  const nibble::Metadata& metadata() const override { return header_.metadata; }
  const nibble::HfFiles* hf() const override { return nullptr; }

 private:
  std::string path_ = "memory";
  nibble::GgufHeader header_;
  std::span<const std::byte> bytes_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::span bytes(reinterpret_cast<const std::byte*>(data), size);
  auto header = nibble::parse_gguf(bytes);
  if (!header) return 0;
  const auto model = nibble::Model::from(std::make_unique<MemorySource>(std::move(*header), bytes));
  if (!model) return 0;
  std::vector<float> row;
  for (std::size_t i = 0; i < model->tensors().size(); ++i) {
    row.resize(model->tensors()[i].columns());
    model->load_rows(i, 0, 1, row.data());
  }
  return 0;
}
