#!/usr/bin/env python3
"""same_everywhere.py BUILD OTHER [MODEL.gguf ID...]

Two builds, for two processors, make the same bytes and continue token ids greedily with the same tokens, on every
instruction set that runs. BUILD and OTHER are build folders; where the programs of OTHER need an emulator, NIBBLE_EMULATOR
names it. Without a model, both builds quantize a small one of random weights, from which they continue.

With --exact all instruction sets must agree. With inputs rounded to 8 bits, an input near the middle between two codes
falls to either side with the last bit of a sum, and scalar code rounds twice where others fuse a product and a sum: so
scalar code must agree with scalar code, and the others with each other. Where the two kinds part, that is printed with
the margins between the best logits and is no failure.
"""
import array
import os
import pathlib
import random
import struct
import subprocess
import sys
import tempfile

LEVELS = ["F16", "Q8_0", "Q4_0", "Q4_K_M", "IQ4_XS"]
ISAS = ["scalar", "avx2", "avx512", "avx512vnni", "avx512bf16", "neon"]
TOKENS = 32
HIDDEN, INNER, KV, VOCAB = 256, 512, 128, 320


def random_checkpoint(file):
    """A GGUF file in float32: two layers with rows of 256 and 512, so that every format has whole blocks."""
    tensors = {"token_embd": (VOCAB, HIDDEN), "output": (VOCAB, HIDDEN), "output_norm": (HIDDEN,)}
    for layer in range(2):
        name = f"blk.{layer}."
        tensors |= {name + "attn_q": (HIDDEN, HIDDEN), name + "attn_k": (KV, HIDDEN), name + "attn_v": (KV, HIDDEN),
                    name + "attn_output": (HIDDEN, HIDDEN), name + "ffn_gate": (INNER, HIDDEN),
                    name + "ffn_up": (INNER, HIDDEN), name + "ffn_down": (HIDDEN, INNER), name + "attn_norm": (HIDDEN,),
                    name + "ffn_norm": (HIDDEN,)}
    counts = {"block_count": 2, "embedding_length": HIDDEN, "feed_forward_length": INNER, "attention.head_count": 8,
              "attention.head_count_kv": 4, "context_length": 64, "vocab_size": VOCAB}

    def text(value):
        return struct.pack("<Q", len(value)) + value.encode()

    header = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(counts) + 2)
    header += text("general.architecture") + struct.pack("<I", 8) + text("llama")
    header += text("llama.attention.layer_norm_rms_epsilon") + struct.pack("<If", 6, 1e-5)
    for name, value in counts.items():
        header += text("llama." + name) + struct.pack("<II", 4, value)
    rng, data = random.Random(7), array.array("f")
    for name, shape in tensors.items():
        header += text(name + ".weight") + struct.pack(f"<I{len(shape)}QIQ", len(shape), *reversed(shape), 0, len(data) * 4)
        if len(shape) == 1:
            data.extend([1.0] * shape[0])
        else:
            data.extend(rng.gauss(0, 1.5 / shape[1] ** 0.5) for _ in range(shape[0] * shape[1]))
    file.write_bytes(header + bytes(-len(header) % 32) + data.tobytes())


class Build:
    def __init__(self, folder, emulator=()):
        self.folder, self.emulator = pathlib.Path(folder), list(emulator)

    def run(self, program, *arguments, isa=None):
        environment = dict(os.environ, **({"NIBBLE_ISA": isa} if isa else {}))
        command = [*self.emulator, str(self.folder / program), *map(str, arguments)]
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    def quantize(self, source, target, level):
        result = self.run("nibble", "quantize", source, "-o", target, "--to", level, "--recipe", "nearest", "--threads", 1)
        if result.returncode:
            sys.exit(f"{self.folder}: {result.stderr}")
        return target.read_bytes()

    def greedy(self, model, ids, isa, *options):
        """[(token, margin of its logit)], or None where this instruction set does not run."""
        result = self.run("tests/greedy", model, "-n", TOKENS, *options, *ids, isa=isa)
        if "NIBBLE_ISA names no instruction set" in result.stderr:
            return None
        if result.returncode:
            sys.exit(f"{self.folder}: {result.stderr}")
        return [tuple(line.split()) for line in result.stdout.splitlines()[1:]]


def same_tokens(builds, model, ids, label):
    """How many continuations differ where they must not."""
    faults = 0
    for options in ([], ["--exact"]):
        first = {}
        for build in builds:
            for isa in ISAS:
                found = build.greedy(model, ids, isa, *options)
                if found is None:
                    continue
                kind = "any" if options else "scalar" if isa == "scalar" else "fused"
                for judge in [kind] if kind in first else list(first)[:1]:
                    apart = next((i for i in range(TOKENS) if found[i][0] != first[judge][i][0]), None)
                    if apart is None:
                        continue
                    faults += judge == kind
                    print(f"{label}: {build.folder} {isa} {options} parts from {judge} at token {apart}: "
                          f"{found[apart][0]} leads by {found[apart][1]}, {first[judge][apart][0]} by {first[judge][apart][1]}"
                          + (": FAULT" if judge == kind else ""))
                first.setdefault(kind, found)
                print(f"{label}: {build.folder} {isa} {options}: {TOKENS} tokens")
    return faults


def main():
    builds = [Build(sys.argv[1]), Build(sys.argv[2], os.environ.get("NIBBLE_EMULATOR", "").split())]
    for build in builds:
        if not (build.folder / "tests/greedy").exists() or not (build.folder / "nibble").exists():
            print(f"SKIP: {build.folder} has no programs (make aarch64 builds them)")
            return 77
    if len(sys.argv) > 3:
        return same_tokens(builds, sys.argv[3], sys.argv[4:], sys.argv[3]) > 0
    faults = 0
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        source = folder / "checkpoint.gguf"
        random_checkpoint(source)
        for level in LEVELS:
            ours, theirs = (b.quantize(source, folder / f"{i}-{level}.gguf", level) for i, b in enumerate(builds))
            if ours != theirs:
                print(f"{level}: the bytes differ")
                faults += 1
            faults += same_tokens(builds, folder / f"0-{level}.gguf", [5, 99, 7, 250, 31], level)
    return faults > 0


if __name__ == "__main__":
    sys.exit(main())
