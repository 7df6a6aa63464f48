#!/usr/bin/env python3
"""Perplexity by llama.cpp's procedure on the same F16 file: within 0.1% of what stock llama.cpp computes."""
import pathlib
import sys

import common
import llama

CHUNKS = 4


def main():
    source = common.model(sys.argv[1])
    checks = common.Checks()
    with common.scratch() as folder:
        file = pathlib.Path(folder) / "model.gguf"
        common.nibble("convert", source, "-o", file, "--to", "F16")
        ours = common.nibble_json("eval", file, "--text", common.TEXT, "--procedure", "llama.cpp", "--chunks", CHUNKS, "--threads", 1)
        with llama.Model(file, threads=1) as stock:
            theirs = llama.perplexity(stock, common.TEXT.read_text(encoding="utf-8"), CHUNKS)
        checks.equal("tokens scored", ours["tokens"], CHUNKS * 255)
        checks.at_most("relative difference of perplexity", abs(ours["perplexity"] / theirs - 1), 0.001)
    checks.finish()


if __name__ == "__main__":
    main()
