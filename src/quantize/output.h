// Writes finished tensors on a thread of its own, while the next ones are being made.
#pragma once

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <thread>

#include "base/hash.h"
#include "container/writer.h"
#include "quantize/journal.h"

namespace nibble {

class BackgroundWriter {
 public:
  struct Buffer {
    std::unique_ptr<std::byte[]> data;
    std::uint64_t size = 0;
    std::span<std::byte> bytes() const { return {data.get(), size}; }
  };

  /// At most `limit` bytes of buffers at a time, or one buffer.
  BackgroundWriter(Writer& writer, Journal& journal, std::uint64_t limit);
  ~BackgroundWriter();

  /// Waits until there is room.
  Buffer acquire(std::uint64_t size);
  /// It is not needed after all.
  void give_back(Buffer buffer);
  /// Appends `buffer` to tensor `index`, which has these attributes. Returns an error of an earlier
  /// write.
  Status push(std::size_t index, Buffer buffer, TensorAttributes attributes = {});
  /// Everything of this tensor was pushed, and of no other since: once it is written, the journal
  /// gets the record, with the hash of the bytes as "sha256".
  Status finish(std::size_t index, Json record);
  /// Waits until everything is written.
  Status drain();

 private:
  struct Item {
    std::size_t index;
    Buffer buffer;
    TensorAttributes attributes = {};
    std::optional<Json> record = {};  // the tensor is finished
  };
  Status push(Item item);
  Status write(Item& item);
  void work();

  Writer& writer_;
  Journal& journal_;
  std::optional<Sha256> hash_;  // of the tensor that is being written
  const std::uint64_t limit_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Item> items_;
  std::uint64_t held_ = 0;  // bytes of buffers not yet written
  Status status_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace nibble
