#include "quantize/verify.h"

#include <algorithm>
#include <atomic>
#include <cmath>

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

Status check_values(const MappedFile& file, const TensorInfo& tensor, std::uint64_t offset,
                    ThreadPool& pool) {
  const Format& format = *tensor.format;
  const std::uint64_t blocks = tensor.bytes / format.spec().bytes;
  const auto panel = std::int64_t(std::max<std::uint64_t>(1, kPanelBytes / format.spec().bytes));
  const auto first_bad = format.block() == 1 ? first_bad_value : first_bad_block;
  std::atomic<std::uint64_t> bad = blocks;
  pool.run(std::int64_t(blocks), panel, [&](std::int64_t begin, std::int64_t end) {
    const auto b = std::uint64_t(begin), e = std::uint64_t(end);
    const std::uint64_t found = first_bad(format, file.bytes().data() + offset, b, e);
    file.release(offset + b * format.spec().bytes, (e - b) * format.spec().bytes);
    if (found == e) return;
    std::uint64_t least = bad;
    while (found < least && !bad.compare_exchange_weak(least, found)) {
    }
  });
  file.release(offset, tensor.bytes);
  if (bad == blocks) return {};
  const std::uint64_t element = bad * std::uint64_t(format.block());
  return fail(ErrorCode::corrupt,
              "row {}, column {}: not a finite number in {}; the source is damaged, or its values "
              "are too large for this format",
              element / tensor.columns(), element % tensor.columns(), format.id());
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

}  // namespace nibble
