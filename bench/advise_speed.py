#!/usr/bin/env python3
"""Is what `nibble advise` predicts what `nibble bench` measures?

    advise_speed.py NIBBLE MODEL WORK [--levels A,B,...] [--rounds 5] [--bound 0.15]

Both in turn for each level, since the speed of a shared machine changes from minute to minute. Prints medians of both
and of their ratio; exits 1 where decode speed is off by more than the bound.
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import sys


def run(*arguments):
    done = subprocess.run([*map(str, arguments)], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{arguments}: {done.stderr}")
    return json.loads(done.stdout) if "--json" in arguments else None


def compare(args, level, file):
    """The median ratio of predicted to measured decode speed."""
    rounds = []
    for _ in range(args.rounds):
        predicted = run(args.nibble, "advise", args.model, "--levels", level, "--ctx", 512, "--json")["levels"][0]
        measured = run(args.nibble, "bench", file, "--json")
        rounds.append([(each["decode_tokens_per_second"], each["prefill_tokens_per_second"]) for each in (predicted, measured)])
    ratios = []
    for which, name in enumerate(("decode", "prompt")):
        ours, theirs = ([each[side][which] for each in rounds] for side in (0, 1))
        ratios.append(statistics.median(a / b for a, b in zip(ours, theirs)))
        print(f"{level:<8} {name} {statistics.median(ours):7.1f} predicted, {statistics.median(theirs):7.1f} measured "
              f"({ratios[-1]:.3f})", flush=True)
    return ratios[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nibble")
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("work", type=pathlib.Path)
    parser.add_argument("--levels", default="Q8_0,Q6_K,Q4_K_M,IQ4_XS,Q4_0,Q2_K")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--bound", type=float, default=0.15)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    worst = 0.0
    for level in args.levels.split(","):
        file = args.work / f"{level}.gguf"
        if not file.exists():
            run(args.nibble, "quantize", args.model, "-o", file, "--to", level, "--recipe", "nearest")
        ratio = compare(args, level, file)
        worst = max(worst, abs(ratio - 1))
    return 1 if worst > args.bound else 0


if __name__ == "__main__":
    sys.exit(main())
