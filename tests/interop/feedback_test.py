#!/usr/bin/env python3
"""Error feedback on the real checkpoint, calibrated on what the model writes itself: the file loads in stock llama.cpp, is
no larger than an importance-weighted one beyond the words on calibration, and much nearer to the original than a plainly
rounded one, on text that nobody tuned on."""
import pathlib
import sys

import common
import llama

LEVEL, WINDOWS = "Q4_0", 8
BOUND = 0.5  # measured: 0.34; 0.6 is what a prototype reached against importance weighting with far more text


def main():
    source = common.model("plain")
    checks = common.Checks()
    with common.scratch() as folder:
        folder = pathlib.Path(folder)
        original, plain, fed = folder / "f16.gguf", folder / "plain.gguf", folder / "fed.gguf"
        common.nibble("convert", source, "-o", original, "--to", "F16")
        common.nibble("quantize", original, "-o", plain, "--to", LEVEL, "--recipe", "nearest")
        report = common.nibble_json("quantize", original, "-o", fed, "--to", LEVEL, "--recipe", "gptq", "--calib-chunks", WINDOWS)
        chosen = [t["feedback"] for t in report["tensors"] if "feedback" in t]
        checks.equal("matrices with a choice", len(chosen), 210)
        checks.equal("never worse than alone on windows held out", max(c["held_out_error"] / c["held_out_error_alone"] for c in chosen) <= 1, True)
        planned = common.nibble_json("quantize", original, "-o", folder / "none.gguf", "--to", LEVEL, "--recipe", "importance", "--dry-run")
        checks.at_most("bytes more", fed.stat().st_size - planned["bytes"], 512)
        results = common.nibble_json("eval", plain, fed, "--ref", original, "--text", common.TEXT, "--chunks", 4)["models"]
        checks.at_most("KL divergence, fed / plain", results[1]["kld_mean"] / results[0]["kld_mean"], BOUND)
        with llama.Model(fed, threads=1) as stock:
            ids, _ = stock.greedy(stock.tokenize("The capital of France is", parse_special=True), 8)
        checks.equal("tokens that stock llama.cpp makes of it", len(ids), 8)
    checks.finish()


if __name__ == "__main__":
    main()
