#!/usr/bin/env python3
"""A GPTQ checkpoint becomes a GGUF without loss where blocks of Q4_0 hold the same values, and says so where they do not.

The judge is the program's own `eval`, which computes in float32: equal weights give a KL divergence of just 0.
"""
import json
import pathlib
import random
import shlex
import struct
import subprocess
import sys
import tempfile

import checkpoint

BITS, GROUP = 4, 32


class Gptq:
    """Random codes and scales, laid out as GPTQModel does (tests/unit/scheme_test.cc has the layout in full)."""

    def __init__(self, pick, symmetric):
        self.pick, self.symmetric = pick, symmetric
        self.settings = {"quant_method": "gptq", "bits": BITS, "group_size": GROUP, "sym": symmetric, "checkpoint_format": "gptq"}

    def __call__(self, name, rows, columns):
        groups = columns // GROUP
        codes = b"".join(struct.pack("<I", self.pick.getrandbits(32)) for _ in range(columns * BITS // 32 * rows))
        zeros = bytes(0x77 if self.symmetric else self.pick.choice((0x67, 0x78)) for _ in range(groups * rows * BITS // 8))
        scales = b"".join(struct.pack("<e", self.pick.uniform(0.5, 1) * 0.2 / columns**0.5) for _ in range(groups * rows))
        return {name + ".qweight": ("I32", (columns * BITS // 32, rows), codes),
                name + ".qzeros": ("I32", (groups, rows * BITS // 32), zeros),
                name + ".scales": ("F16", (groups, rows), scales)}


def run(program, *arguments):
    done = subprocess.run([*shlex.split(program), *map(str, arguments)], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{arguments}: exit code {done.returncode}: {done.stderr}")
    return done.stdout, done.stderr


def divergence(program, model, reference, words):
    out, _ = run(program, "eval", model, "--ref", reference, "--text", words, "--chunks", "2", "--json")
    return json.loads(out)["kld_mean"]


def main():
    program = sys.argv[1]
    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        words = folder / "text.txt"
        words.write_text(checkpoint.text(1))
        for symmetric in (True, False):
            model = folder / f"model{symmetric}"
            model.mkdir()
            checkpoint.write(model, random.Random(3), Gptq(random.Random(5), symmetric))
            for command, *options in (("convert",), ("quantize", "--to", "q4_0", "--recipe", "nearest", "--override", "token_embd=bf16")):
                out = folder / f"{command}{symmetric}.gguf"
                _, said = run(program, command, model, "-o", out, *options)
                formats = [t["format"] for t in json.loads(run(program, "inspect", out, "--json")[0])["tensors"] if "blk." in t["name"]]
                kld = divergence(program, out, model, words)
                expected = "q4_0" if symmetric or command == "quantize" else "f16"
                print(f"{command}, symmetric {symmetric}: {formats.count(expected)} matrices in {expected}, KL divergence {kld:.3g}")
                if formats.count(expected) != 7 * checkpoint.LAYERS:
                    wrong.append(f"{command}: {formats.count(expected)} matrices are {expected}")
                if symmetric and (kld != 0 or "have just the values they had" not in said):
                    wrong.append(f"{command}: not exact: {kld}, {said}")
                if not symmetric and (not kld > 0 or "rounded once more" not in said):
                    wrong.append(f"{command}: a loss was not noticed: {kld}, {said}")
    if wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
