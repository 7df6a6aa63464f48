"""A split checkpoint gives the same logits in stock llama.cpp as the whole one."""
import json
import os
import pathlib
import subprocess

import common
import llama
import numpy as np

TOOL = os.environ.get("NIBBLE_GGUF_TOOL", str(common.ROOT / "build" / "release" / "tests" / "gguf_tool"))
PART = 20_000_000  # bytes


def logits(path):
    with llama.Model(path) as stock:
        return stock.logits(stock.tokenize("The capital of France is", parse_special=True))


def main():
    source = common.model("plain")
    checks = common.Checks()
    with common.scratch() as folder:
        whole = pathlib.Path(folder) / "whole.gguf"
        common.nibble("quantize", source, "-o", whole, "--to", "Q8_0", "--recipe", "nearest")
        done = subprocess.run([TOOL, "split", whole, pathlib.Path(folder) / "parts.gguf", str(PART)], capture_output=True, check=True)
        parts = json.loads(done.stdout)
        checks.equal("several parts", len(parts) > 3, True)
        checks.equal("names", [pathlib.Path(p).name for p in parts],
                     [f"parts-{i + 1:05}-of-{len(parts):05}.gguf" for i in range(len(parts))])
        checks.equal("the same logits", np.array_equal(logits(whole), logits(parts[0])), True)
    checks.finish()


if __name__ == "__main__":
    main()
