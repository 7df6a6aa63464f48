#include "quantize/output.h"

namespace nibble {

BackgroundWriter::BackgroundWriter(Writer& writer, std::uint64_t limit)
    : writer_(writer), limit_(limit), thread_([this] { work(); }) {}

BackgroundWriter::~BackgroundWriter() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

BackgroundWriter::Buffer BackgroundWriter::acquire(std::uint64_t size) {
  {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return held_ == 0 || held_ + size <= limit_; });
    held_ += size;
  }
  return {std::make_unique_for_overwrite<std::byte[]>(size), size};
}

Status BackgroundWriter::push(std::size_t index, Buffer buffer) {
  const std::lock_guard lock(mutex_);
  items_.push_back({index, std::move(buffer)});
  changed_.notify_all();
  return status_;
}

Status BackgroundWriter::drain() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return items_.empty(); });
  return status_;
}

void BackgroundWriter::work() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return stop_ || !items_.empty(); });
    if (stop_) return;
    Item item = std::move(items_.front());  // stays in the queue, so that drain() waits for it
    const bool good = status_.has_value();
    lock.unlock();
    Status written = good ? writer_.write(item.index, item.buffer.bytes()) : Status{};
    const std::uint64_t size = item.buffer.size;
    item.buffer.data.reset();
    lock.lock();
    if (good) status_ = std::move(written);
    items_.pop_front();
    held_ -= size;
    changed_.notify_all();
  }
}

}  // namespace nibble
