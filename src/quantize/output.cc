#include "quantize/output.h"

namespace nibble {

BackgroundWriter::BackgroundWriter(Writer& writer, Journal& journal, std::uint64_t limit)
    : writer_(writer), journal_(journal), limit_(limit), thread_([this] { work(); }) {}

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

void BackgroundWriter::give_back(Buffer buffer) {
  const std::lock_guard lock(mutex_);
  held_ -= buffer.size;
  changed_.notify_all();
}

Status BackgroundWriter::push(std::size_t index, Buffer buffer, TensorAttributes attributes) {
  return push(Item{index, std::move(buffer), std::move(attributes)});
}

Status BackgroundWriter::finish(std::size_t index, Json record) {
  return push(Item{index, {}, {}, std::move(record)});
}

Status BackgroundWriter::push(Item item) {
  const std::lock_guard lock(mutex_);
  items_.push_back(std::move(item));
  changed_.notify_all();
  return status_;
}

Status BackgroundWriter::drain() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return items_.empty(); });
  return status_;
}

Status BackgroundWriter::write(Item& item) {
  if (!item.record) {
    if (!hash_) hash_.emplace();
    hash_->update(item.buffer.bytes());
    writer_.set_attributes(item.index, item.attributes);
    return writer_.write(item.index, item.buffer.bytes());
  }
  (*item.record)["sha256"] = hash_->hex();
  hash_.reset();
  return journal_.add(item.index, std::move(*item.record));
}

void BackgroundWriter::work() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return stop_ || !items_.empty(); });
    if (stop_) return;
    Item item = std::move(items_.front());  // stays in the queue, so that drain() waits for it
    const bool good = status_.has_value();
    lock.unlock();
    Status written = good ? write(item) : Status{};
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
