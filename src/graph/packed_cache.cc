#include "graph/packed_cache.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <string_view>

#include "base/hash.h"

namespace nibble {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kMark = "nibble packed weights\n";

using Header = std::array<std::byte, PackedCache::kPage>;

class Key {
 public:
  void add(std::string_view text) {
    text_ += text;
    text_ += '\0';
  }
  void add(std::uint64_t number) { add(fmt::format("{}", number)); }
  std::string hex() const {
    Sha256 digest;
    digest.update(std::as_bytes(std::span(text_)));
    return digest.hex();
  }

 private:
  std::string text_;
};

bool kept(const Model& model, std::size_t weight) {
  return model.tensors()[weight].shape.size() == 2 && model.keeps_values(weight);
}

/// What packed bytes depend on: the program's way of packing, the model's files, how they are read.
Header header_of(const Model& model) {
  Key key;
  key.add(NIBBLE_PACKING);
  std::error_code none;  // a file that is gone is another one
  for (const std::string& file : model.source().files()) {
    key.add(fs::file_size(file, none));
    key.add(std::uint64_t(fs::last_write_time(file, none).time_since_epoch().count()));
  }
  if (const HfFiles* hf = model.source().hf()) key.add(hf->config.dump());
  for (std::size_t i = 0; i < model.tensors().size(); ++i) {
    if (!kept(model, i)) continue;
    const TensorInfo& info = model.tensors()[i];
    key.add(info.name);
    key.add(info.format->id());
    for (const std::uint64_t n : info.shape) key.add(n);
  }
  Header header{};
  const std::string text = std::string(kMark) + key.hex();
  std::memcpy(header.data(), text.data(), text.size());
  return header;
}

/// Models of the same name in two places have two files.
fs::path place_of(const fs::path& directory, const std::string& model) {
  std::error_code none;
  const fs::path path = fs::weakly_canonical(model, none);
  Key key;
  key.add(path.string());
  return directory / fmt::format("{}-{}.packed", path.stem().string(), key.hex().substr(0, 16));
}

std::uint64_t whole_pages(std::uint64_t n) {
  return (n + PackedCache::kPage - 1) / PackedCache::kPage * PackedCache::kPage;
}

}  // namespace

PackedCache::PackedCache(const Model& model) : model_(&model), places_(model.tensors().size(), 0) {
  for (std::size_t i = 0; i < places_.size(); ++i) {
    if (!kept(model, i)) continue;
    const TensorInfo& info = model.tensors()[i];
    places_[i] = size_;
    size_ += whole_pages(Matrix::packed_bytes(*info.format, std::int64_t(info.rows()),
                                              std::int64_t(info.columns())));
  }
}

Result<PackedCache> PackedCache::open(const std::string& directory, const Model& model) {
  std::error_code error;
  fs::create_directories(directory, error);
  if (error)
    return fail(ErrorCode::io, "{}: cannot make this directory for packed weights: {}", directory,
                error.message());
  PackedCache cache(model);
  const Header header = header_of(model);
  const std::string path = place_of(directory, model.source().path()).string();
  if (auto file = MappedFile::open(path);
      file && file->size() == cache.size_ &&
      std::ranges::equal(file->bytes().first(header.size()), header)) {
    cache.mapped_ = std::make_shared<const MappedFile>(std::move(*file));
    return cache;
  }
  NIBBLE_TRY(cache.written_, OutputFile::create(path));
  NIBBLE_DO(cache.written_->reserve(cache.size_));
  NIBBLE_DO(cache.written_->write_at(0, header));
  return cache;
}

Result<std::optional<Matrix>> PackedCache::find(std::size_t weight) const {
  if (!mapped_ || !has(weight)) return std::optional<Matrix>();
  const TensorInfo& info = model_->tensors()[weight];
  return Matrix::over(*info.format, std::int64_t(info.rows()), std::int64_t(info.columns()),
                      {mapped_, mapped_->bytes().data() + places_[weight]});
}

Status PackedCache::keep(std::size_t weight, const Matrix& matrix) {
  if (!written_ || !has(weight)) return {};
  const auto bytes = matrix.storage();
  NIBBLE_DO(written_->write_at(places_[weight], bytes));
  const std::vector<std::byte> rest(whole_pages(bytes.size()) - bytes.size());
  return written_->write_at(places_[weight] + bytes.size(), rest);
}

Status PackedCache::commit() { return written_ ? written_->commit() : Status(); }

}  // namespace nibble
