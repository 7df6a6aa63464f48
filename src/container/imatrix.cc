#include "container/imatrix.h"

#include <cmath>
#include <cstring>

#include "base/file.h"
#include "base/utf8.h"
#include "container/byte_reader.h"
#include "container/gguf_parse.h"
#include "container/writer.h"

namespace nibble {
namespace {

constexpr char kDatasets[] = "imatrix.datasets", kChunkCount[] = "imatrix.chunk_count",
               kChunkSize[] = "imatrix.chunk_size";
constexpr std::string_view kSums = ".in_sum2", kCounts = ".counts";

bool is_gguf(std::span<const std::byte> file) {
  return file.size() >= 4 && std::memcmp(file.data(), "GGUF", 4) == 0;
}

/// Divides the sums of each matrix by its count, and checks both.
Result<ImatrixEntry> make_entry(std::vector<float> sums, std::vector<float> counts) {
  const std::size_t inputs = sums.size() / counts.size();
  for (std::size_t m = 0; m < counts.size(); ++m) {
    if (!std::isfinite(counts[m]) || counts[m] < 0)
      return fail(ErrorCode::corrupt, "count {} of matrix {}", counts[m], m);
    for (std::size_t i = m * inputs; i < (m + 1) * inputs; ++i) {
      const float mean = counts[m] > 0 ? sums[i] / counts[m] : 1.0f;
      if (!std::isfinite(sums[i]) || !std::isfinite(mean) || sums[i] < 0)
        return fail(ErrorCode::corrupt, "value {} at {} of matrix {}", sums[i], i - m * inputs, m);
      sums[i] = mean;
    }
  }
  return ImatrixEntry{std::move(sums), std::move(counts)};
}

Result<std::vector<float>> floats_of(std::span<const std::byte> file, const GgufHeader& header,
                                     std::size_t index) {
  const TensorInfo& tensor = header.tensors[index];
  if (tensor.format != find_format("f32"))
    return fail(ErrorCode::corrupt, "tensor {}: is {}, expected f32", quote(tensor.name),
                tensor.format->id());
  std::vector<float> values(tensor.elements());
  std::memcpy(values.data(), file.data() + header.offsets[index], tensor.bytes);
  return values;
}

Result<ImatrixEntry> gguf_entry(std::span<const std::byte> file, const GgufHeader& header,
                                std::size_t sums_index, std::size_t counts_index) {
  NIBBLE_TRY(auto sums, floats_of(file, header, sums_index));
  NIBBLE_TRY(auto counts, floats_of(file, header, counts_index));
  if (header.tensors[sums_index].rows() != counts.size())
    return fail(ErrorCode::corrupt, "{} matrices, but {} counts", header.tensors[sums_index].rows(),
                counts.size());
  return make_entry(std::move(sums), std::move(counts));
}

Result<Imatrix> parse_gguf_form(std::span<const std::byte> file) {
  NIBBLE_TRY(const GgufHeader header, parse_gguf(file));
  NIBBLE_TRY(const std::string type, header.metadata.text_or("general.type", ""));
  if (type != "imatrix")
    return fail(ErrorCode::invalid, "general.type is {}, expected 'imatrix'", quote(type));
  Imatrix imatrix;
  NIBBLE_TRY(imatrix.chunk_count, header.metadata.uint_or(kChunkCount, 0));
  NIBBLE_TRY(imatrix.chunk_size, header.metadata.uint_or(kChunkSize, 0));
  if (const MetaValue* value = header.metadata.find(kDatasets)) {
    const auto* datasets = std::get_if<std::vector<std::string>>(value);
    if (!datasets) return fail(ErrorCode::corrupt, "{} is not a list of strings", kDatasets);
    imatrix.datasets = *datasets;
  }
  std::map<std::string_view, std::size_t> index;
  for (std::size_t i = 0; i < header.tensors.size(); ++i) index[header.tensors[i].name] = i;
  for (const auto& [name, place] : index) {
    if (!name.ends_with(kSums)) continue;
    const std::string tensor(name.substr(0, name.size() - kSums.size()));
    const auto counts = index.find(tensor + std::string(kCounts));
    if (tensor.empty() || counts == index.end())
      return fail(ErrorCode::corrupt, "tensor {} has no {}", quote(name), kCounts);
    NIBBLE_TRY_IN("entry " + quote(tensor), imatrix.entries[tensor],
                  gguf_entry(file, header, place, counts->second));
  }
  return imatrix;
}

Result<std::pair<std::string, ImatrixEntry>> legacy_entry(ByteReader& in) {
  NIBBLE_TRY(const std::string_view name, in.string<std::int32_t>());
  if (name.empty() || !is_utf8(name))
    return fail(ErrorCode::corrupt, "name {} is empty or not UTF-8", quote(name));
  const std::string where = "entry " + quote(name);
  NIBBLE_TRY_IN(where, const auto calls, in.read<std::int32_t>());
  NIBBLE_TRY_IN(where, const auto n, in.read<std::int32_t>());
  if (calls < 0 || n < 1)
    return fail(ErrorCode::corrupt, "{}: {} values, {} calls", where, n, calls);
  NIBBLE_TRY_IN(where, const auto bytes, in.take(std::uint64_t(n), sizeof(float)));
  std::vector<float> sums(static_cast<std::size_t>(n));
  std::memcpy(sums.data(), bytes.data(), bytes.size());
  NIBBLE_TRY_IN(where, ImatrixEntry entry, make_entry(std::move(sums), {float(calls)}));
  return std::pair(std::string(name), std::move(entry));
}

Status legacy_tail(ByteReader& in, Imatrix& imatrix) {
  if (in.left() == 0) return {};
  NIBBLE_TRY_IN("chunks", const auto chunks, in.read<std::int32_t>());
  if (chunks < 0) return fail(ErrorCode::corrupt, "chunks: {}", chunks);
  imatrix.chunk_count = std::uint64_t(chunks);
  if (in.left() == 0) return {};
  NIBBLE_TRY_IN("dataset", const std::string_view dataset, in.string<std::int32_t>());
  if (!dataset.empty()) imatrix.datasets.emplace_back(dataset);
  if (in.left() > 0) return fail(ErrorCode::corrupt, "{} bytes after the dataset", in.left());
  return {};
}

Result<Imatrix> parse_legacy_form(std::span<const std::byte> file) {
  ByteReader in(file);
  Imatrix imatrix;
  NIBBLE_TRY_IN("entries", const auto n, in.read<std::int32_t>());
  if (n < 1) return fail(ErrorCode::corrupt, "entries: {}", n);
  for (std::int32_t i = 0; i < n; ++i) {
    NIBBLE_TRY_IN(fmt::format("entry {} of {}", i + 1, n), auto entry, legacy_entry(in));
    const std::string name = entry.first;
    if (!imatrix.entries.insert(std::move(entry)).second)
      return fail(ErrorCode::corrupt, "entry {} occurs twice", quote(name));
  }
  NIBBLE_DO(legacy_tail(in, imatrix));
  return imatrix;
}

/// The two tensors of an entry, and their content: sums, counts.
struct Stored {
  std::vector<TensorInfo> infos;
  std::vector<std::vector<float>> values;

  void add(std::string name, std::size_t rows, std::vector<float> content) {
    TensorInfo info{.name = std::move(name),
                    .shape = {rows, content.size() / rows},
                    .format = find_format("f32"),
                    .bytes = content.size() * sizeof(float)};
    infos.push_back(std::move(info));
    values.push_back(std::move(content));
  }
};

Status store(const std::string& name, const ImatrixEntry& entry, Stored& stored) {
  const std::size_t matrices = entry.count.size();
  if (matrices == 0 || entry.mean_square.empty() || entry.mean_square.size() % matrices != 0)
    return fail(ErrorCode::invalid, "{} values of {} matrices", entry.mean_square.size(), matrices);
  std::vector<float> sums = entry.mean_square;
  const std::size_t inputs = sums.size() / matrices;
  for (std::size_t i = 0; i < sums.size(); ++i) sums[i] *= entry.count[i / inputs];
  NIBBLE_TRY([[maybe_unused]] const auto valid, make_entry(sums, entry.count));
  stored.add(name + std::string(kSums), matrices, std::move(sums));
  stored.add(name + std::string(kCounts), matrices, entry.count);
  return {};
}

}  // namespace

const ImatrixEntry* Imatrix::find(std::string_view tensor) const {
  const auto it = entries.find(tensor);
  return it == entries.end() ? nullptr : &it->second;
}

Result<Imatrix> parse_imatrix(std::span<const std::byte> file) {
  return is_gguf(file) ? parse_gguf_form(file) : parse_legacy_form(file);
}

Result<Imatrix> read_imatrix(const std::string& path) {
  NIBBLE_TRY(const MappedFile file, MappedFile::open(path));
  NIBBLE_TRY_IN(path, Imatrix imatrix, parse_imatrix(file.bytes()));
  return imatrix;
}

Status write_imatrix(const std::string& path, const Imatrix& imatrix) {
  Metadata metadata;
  metadata.set("general.type", std::string("imatrix"));
  metadata.set(kDatasets, imatrix.datasets);
  metadata.set(kChunkCount, std::uint32_t(imatrix.chunk_count));
  metadata.set(kChunkSize, std::uint32_t(imatrix.chunk_size));
  Stored stored;
  for (const auto& [name, entry] : imatrix.entries)
    NIBBLE_DO_IN(path + ": entry " + quote(name), store(name, entry, stored));
  NIBBLE_TRY(auto writer, create_gguf(path, metadata, stored.infos));
  for (std::size_t i = 0; i < stored.values.size(); ++i)
    NIBBLE_DO(writer->write(i, std::as_bytes(std::span(stored.values[i]))));
  NIBBLE_TRY([[maybe_unused]] const auto paths, writer->finish());
  return {};
}

bool is_imatrix(const std::string& path) {
  if (path.ends_with(".dat") || path.ends_with(".imatrix")) return true;
  const auto file = MappedFile::open(path);
  return file && is_gguf(file->bytes());
}

}  // namespace nibble
