// Kinds of checkpoint files. A container knows names, offsets and bytes, nothing about methods.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "container/source.h"

namespace nibble {

class Container {
 public:
  virtual ~Container() = default;
  virtual std::string_view id() const = 0;  // what Source::container() says
  /// True if `path` looks like one of these. `head` is the start of the file (up to 16 bytes),
  /// empty for a directory.
  virtual bool recognises(const std::string& path, bool directory,
                          std::span<const std::byte> head) const = 0;
  virtual Result<std::unique_ptr<Source>> open(const std::string& path) const = 0;
};

/// All containers, in the order of their nibble_register lines: the first that recognises a path
/// opens it.
std::span<const Container* const> container_registry();

}  // namespace nibble
