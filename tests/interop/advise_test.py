#!/usr/bin/env python3
"""advise_test.py KIND: the memory that `nibble advise` predicts is within 5% of what `nibble run` takes with a full context, and
the size of the file within 1% of what `nibble quantize` writes."""
import os
import pathlib
import subprocess
import sys

import common

LEVELS = ("Q8_0", "Q4_K_M")
CONTEXT = 512
SIZE, MEMORY = 0.01, 0.05


def peak_memory(*arguments):
    """Bytes resident at most, as the system counts them."""
    run = subprocess.Popen([common.PROGRAM, *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(run.pid, 0)
    if status != 0:
        sys.exit(f"nibble {arguments}: status {status}")
    return usage.ru_maxrss * 1024


def main():
    source, checks = common.model(sys.argv[1]), common.Checks()
    prompt = common.TEXT.read_text()[:2000]  # most of the context; the answer fills the rest
    with common.scratch() as folder:
        advice = common.nibble_json("advise", source, "--levels", ",".join(LEVELS), "--ctx", CONTEXT, "--no-speed", "--threads", 2)
        for level in advice["levels"]:
            name = level["level"]
            file = pathlib.Path(folder) / f"{name}.gguf"
            common.nibble("quantize", source, "-o", file, "--to", name, "--recipe", "nearest")
            size = file.stat().st_size
            taken = peak_memory("run", file, "-p", prompt, "-n", CONTEXT, "--ctx", CONTEXT, "--threads", 2)
            checks.at_most(f"{name}: size, {level['file_bytes']} of {size}", abs(level["file_bytes"] / size - 1), SIZE)
            checks.at_most(f"{name}: memory, {level['memory_bytes']} of {taken}", abs(level["memory_bytes"] / taken - 1), MEMORY)
    checks.finish()


if __name__ == "__main__":
    main()
