// Formats whose columns have codes of their own, each of a byte at most: they are unpacked into
// codes of either size by one function.
#pragma once

#include "format/format.h"

namespace nibble {

/// `Self` has a member template that does what Format::unpack_bytes() says:
///   template <class Item> void read(const std::byte* in, Grid& grid, Item* codes) const;
template <class Self>
class ColumnFormat : public Format {
 public:
  using Format::Format;
  void unpack(const std::byte* in, Grid& grid, Code* codes) const final {
    self().read(in, grid, codes);
    make_effective(grid);
  }
  void unpack_bytes(const std::byte* in, Grid& grid, std::uint8_t* codes) const final {
    self().read(in, grid, codes);
  }

 private:
  const Self& self() const { return static_cast<const Self&>(*this); }
};

}  // namespace nibble
