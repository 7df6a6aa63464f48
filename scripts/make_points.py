#!/usr/bin/env python3
"""Writes src/format/points.h: the points of the codebooks that GGUF's i-quants have, as the PyPI package `gguf` knows
them. They are facts of the format: what files hold are numbers of points. Made with gguf 0.19.0.

    make_points.py SRC/FORMAT/POINTS.H"""
import sys

from gguf import quants

# Our name, whose table, bits of a digit.
TABLES = (("Iq2Xxs", "IQ2_XXS", 2), ("Iq2Xs", "IQ2_XS", 2), ("Iq2S", "IQ2_S", 2), ("Iq1", "IQ1_S", 2),
          ("Iq3Xxs", "IQ3_XXS", 3), ("Iq3S", "IQ3_S", 3))
HEAD = """// The points of codebooks, written by scripts/make_points.py: a digit a column, the first column lowest.
#pragma once

#include <array>
#include <cstdint>

namespace nibble {

// clang-format off
"""
TAIL = """// clang-format on

}  // namespace nibble
"""


def main():
    text = HEAD
    for name, source, bits in TABLES:
        kind = getattr(quants, source)
        kind.init_grid()
        values = sorted(kind.grid_map)
        points = kind.grid.reshape(kind.grid_shape).astype(int)
        numbers = [sum(values.index(level) << (bits * i) for i, level in enumerate(point)) for point in points]
        text += f"inline constexpr std::array<std::uint16_t, {len(numbers)}> k{name}Points = {{\n"
        for i in range(0, len(numbers), 14):
            text += " ".join(f"{n:#x}," for n in numbers[i:i + 14]) + "\n"
        text += "};\n\n"
    open(sys.argv[1], "w").write(text + TAIL)


if __name__ == "__main__":
    main()
