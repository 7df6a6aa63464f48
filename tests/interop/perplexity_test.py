#!/usr/bin/env python3
"""Perplexity by llama.cpp's procedure on the same F16 file: within 0.1% of what stock llama.cpp computes. Several models in
one run: each as if alone, and a file that is its own reference has no divergence."""
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
        several(source, file, folder, checks)
    checks.finish()


def several(source, file, folder, checks):
    small = pathlib.Path(folder) / "small.gguf"
    common.nibble("quantize", source, "-o", small, "--to", "Q4_0", "--recipe", "nearest", "--threads", 1)
    common_args = ["--text", common.TEXT, "--chunks", 1, "--threads", 1]
    alone = common.nibble_json("eval", small, "--ref", file, *common_args)
    same, other = common.nibble_json("eval", file, small, "--ref", file, *common_args)["models"]
    checks.equal("divergence from itself", (same["kld_max"], same["same_top"], same["perplexity_ratio"]), (0, 1, 1))
    for field in ("tokens", "perplexity", "reference_perplexity", "kld_mean", "kld_p99", "same_top"):
        checks.equal(f"{field} beside another model", other[field], alone[field])


if __name__ == "__main__":
    main()
