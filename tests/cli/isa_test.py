"""The runtime gives the same to the last bit on every instruction set that runs here.

    isa_test.py 'PROGRAM'
"""
import json
import os
import pathlib
import random
import shlex
import subprocess
import sys
import tempfile

import checkpoint

FORMATS = ("F16", "BF16", "Q8_0", "Q4_K_M", "Q6_K", "Q2_K", "IQ4_XS")
SETTINGS = (["--fast"], [], ["--fast", "--cache", "q8_0"], ["--fast", "--cache", "q4_0"])


def run(program, isa, *arguments):
    """Output, or None where this machine has no such instruction set."""
    done = subprocess.run([*shlex.split(program), *map(str, arguments)], capture_output=True, text=True, env={**os.environ, "NIBBLE_ISA": isa})
    if "NIBBLE_ISA names no instruction set that runs here" in done.stderr:
        return None
    assert done.returncode == 0, done.stderr
    return done.stdout


def main():
    program = sys.argv[1]
    compared = 0
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        model, text = folder / "model", folder / "text.txt"
        model.mkdir()
        checkpoint.write(model, random.Random(3))
        text.write_text(checkpoint.text(1))
        for level in FORMATS:
            file = folder / f"{level}.gguf"
            run(program, "scalar", "quantize", model, "-o", file, "--to", level, "--recipe", "nearest")
            for settings in SETTINGS:
                ask = ["eval", file, "--text", text, "--ctx", 100, "--chunks", 2, "--json", *settings]
                expected = json.loads(run(program, "scalar", *ask))["perplexity"]
                for isa in ("avx2", "avx512", "avx512vnni", "avx512bf16", "neon"):
                    found = run(program, isa, *ask)
                    if found is None:
                        continue
                    assert json.loads(found)["perplexity"] == expected, (level, settings, isa, found, expected)
                    compared += 1
    print(f"{compared} perplexities equal those of scalar code")
    sys.exit(0 if compared else 77)


if __name__ == "__main__":
    main()
