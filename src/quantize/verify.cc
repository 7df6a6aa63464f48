#include "quantize/verify.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <functional>

#include "arch/arch.h"
#include "base/file.h"
#include "container/gguf_parse.h"

namespace nibble {
namespace {

constexpr std::uint64_t kPanelBytes = 1u << 20;

/// The first value of [begin, end) that is not finite, or `end`; for formats whose code is the
/// value itself (blocks of one column).
std::uint64_t first_bad_value(const Format& format, const std::byte* data, std::uint64_t begin,
                              std::uint64_t end) {
  float values[1024];
  while (begin < end) {
    const std::uint64_t n = std::min<std::uint64_t>(end - begin, std::size(values));
    format.decode(data + begin * format.spec().bytes, n, values);
    for (std::uint64_t i = 0; i < n; ++i)
      if (!std::isfinite(values[i])) return begin + i;
    begin += n;
  }
  return end;
}

/// The first block that is not finite. Levels are small integers: a block is finite when its scales
/// are.
std::uint64_t first_bad_block(const Format& format, const std::byte* data, std::uint64_t begin,
                              std::uint64_t end) {
  Grid grid;
  Code codes[kMaxBlock];
  for (; begin < end; ++begin) {
    format.unpack(data + begin * format.spec().bytes, grid, codes);
    if (!std::isfinite(grid.d) || !std::isfinite(grid.dmin)) break;
  }
  return begin;
}

/// The first of blocks [begin, end) that is not finite, or `end`.
using FirstBad = std::function<std::uint64_t(std::uint64_t begin, std::uint64_t end)>;

std::uint64_t first_bad(const Format& format, const std::byte* data, std::uint64_t begin,
                        std::uint64_t end) {
  return (format.block() == 1 ? first_bad_value : first_bad_block)(format, data, begin, end);
}

/// `panel` blocks at a time.
Status check_values(const TensorInfo& tensor, std::uint64_t panel, const FirstBad& first,
                    ThreadPool& pool) {
  const Format& format = *tensor.format;
  const std::uint64_t blocks = tensor.bytes / format.spec().bytes;
  std::atomic<std::uint64_t> bad = blocks;
  pool.run(std::int64_t(blocks), std::int64_t(panel), [&](std::int64_t begin, std::int64_t end) {
    const std::uint64_t found = first(std::uint64_t(begin), std::uint64_t(end));
    if (found == std::uint64_t(end)) return;
    std::uint64_t least = bad;
    while (found < least && !bad.compare_exchange_weak(least, found)) {
    }
  });
  if (bad == blocks) return {};
  const std::uint64_t element = bad * std::uint64_t(format.block());
  return fail(ErrorCode::corrupt,
              "row {}, column {}: not a finite number in {}; the source is damaged, or its values "
              "are too large for this format",
              element / tensor.columns(), element % tensor.columns(), format.id());
}

Status check_values(const MappedFile& file, const TensorInfo& tensor, std::uint64_t offset,
                    ThreadPool& pool) {
  const std::uint64_t block = tensor.format->spec().bytes;
  const auto first = [&](std::uint64_t begin, std::uint64_t end) {
    const std::uint64_t found = first_bad(*tensor.format, file.bytes().data() + offset, begin, end);
    file.release(offset + begin * block, (end - begin) * block);
    return found;
  };
  const Status status =
      check_values(tensor, std::max<std::uint64_t>(1, kPanelBytes / block), first, pool);
  file.release(offset, tensor.bytes);
  return status;
}

Status check_values(const Source& source, std::size_t index, ThreadPool& pool) {
  const TensorInfo& tensor = source.tensors()[index];
  const std::uint64_t row = std::max<std::uint64_t>(
      1, tensor.columns() / std::uint64_t(tensor.format->block()));  // blocks
  const std::uint64_t bytes = row * tensor.format->spec().bytes;
  const auto first = [&](std::uint64_t begin, std::uint64_t end) {
    std::vector<std::byte> rows((end - begin) / row * bytes);
    source.read_rows(index, begin / row, end / row, rows.data());
    return begin + first_bad(*tensor.format, rows.data(), 0, end - begin);
  };
  return check_values(tensor, row * std::max<std::uint64_t>(1, kPanelBytes / bytes), first, pool);
}

Status check_file(const MappedFile& file, std::span<const TensorInfo>& expected, ThreadPool& pool) {
  NIBBLE_TRY(const GgufHeader header, parse_gguf(file.bytes()));
  for (std::size_t i = 0; i < header.tensors.size(); ++i) {
    const TensorInfo& tensor = header.tensors[i];
    if (expected.empty() || tensor.name != expected[0].name || tensor.shape != expected[0].shape ||
        tensor.format != expected[0].format || tensor.bytes != expected[0].bytes)
      return fail(ErrorCode::internal, "tensor {}: what was written reads back differently",
                  tensor.name);
    NIBBLE_DO_IN("tensor " + tensor.name, check_values(file, tensor, header.offsets[i], pool));
    expected = expected.subspan(1);
  }
  return {};
}

}  // namespace

Status verify_gguf(const std::vector<std::string>& paths, std::span<const TensorInfo> tensors,
                   ThreadPool& pool) {
  for (const std::string& path : paths) {
    NIBBLE_TRY(const MappedFile file, MappedFile::open(path));
    NIBBLE_DO_IN(path, check_file(file, tensors, pool));
  }
  if (!tensors.empty())
    return fail(ErrorCode::internal, "{}: tensor {} was not written", paths.back(),
                tensors.front().name);
  return {};
}

Status verify_hf(const std::string& path, const Plan& plan, ThreadPool& pool) {
  NIBBLE_TRY(const Model model, Model::open(path));
  for (const PlannedTensor& planned : plan.tensors) {
    const auto found = model.find(planned.tensor.name);
    const bool packed = planned.tensor.format->block() > 1;
    // A reader may take a format for another one with the same values, as groups of a whole row.
    if (!found || model.tensors()[*found].shape != planned.tensor.shape ||
        (model.tensors()[*found].format->block() > 1) != packed)
      return fail(ErrorCode::internal, "{}: tensor {}: what was written reads back differently",
                  path, planned.tensor.name);
  }
  for (std::size_t i = 0; i < model.source().tensors().size(); ++i)
    NIBBLE_DO_IN(path + ": tensor " + model.source().tensors()[i].name,
                 check_values(model.source(), i, pool));
  return {};
}

}  // namespace nibble
