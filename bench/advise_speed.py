#!/usr/bin/env python3
"""Is what `nibble advise` predicts what `nibble bench` measures?

    advise_speed.py NIBBLE MODEL WORK [--levels A,B,...] [--bound 0.15]

Prints both for each level; exits 1 where decode speed is off by more than the bound. For a machine that does nothing else.
"""
import argparse
import json
import pathlib
import subprocess
import sys


def run(*arguments):
    done = subprocess.run([*map(str, arguments)], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{arguments}: {done.stderr}")
    return json.loads(done.stdout) if "--json" in arguments else None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nibble")
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("work", type=pathlib.Path)
    parser.add_argument("--levels", default="Q8_0,Q6_K,Q4_K_M,IQ4_XS,Q4_0,Q2_K")
    parser.add_argument("--bound", type=float, default=0.15)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    worst = 0.0
    advice = run(args.nibble, "advise", args.model, "--levels", args.levels, "--ctx", 512, "--json")
    for level in advice["levels"]:
        file = args.work / f"{level['level']}.gguf"
        if not file.exists():
            run(args.nibble, "quantize", args.model, "-o", file, "--to", level["level"], "--recipe", "nearest")
        found = run(args.nibble, "bench", file, "--json")
        ratio = level["decode_tokens_per_second"] / found["decode_tokens_per_second"]
        worst = max(worst, abs(ratio - 1))
        print(f"{level['level']:<8} decode {level['decode_tokens_per_second']:7.1f} predicted, "
              f"{found['decode_tokens_per_second']:7.1f} measured ({ratio:.3f}); prompt "
              f"{level['prefill_tokens_per_second']:7.1f}, {found['prefill_tokens_per_second']:7.1f}", flush=True)
    return 1 if worst > args.bound else 0


if __name__ == "__main__":
    sys.exit(main())
