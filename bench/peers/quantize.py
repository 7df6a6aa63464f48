#!/usr/bin/env python3
"""How fast nibble quantizes, against llama-quantize: same source, same threads, in turn, medians.

    quantize.py NIBBLE LLAMA_QUANTIZE MODEL.gguf [--levels Q4_K_M ...] [--imatrix I.gguf] [--threads 2] [--rounds 3] [--json]

Both read a file that is in the page cache and write to the same folder. Seconds are wall clock of the whole process,
its start included; CPU seconds are user plus system. With an importance matrix, which llama-quantize demands for the
smallest levels, the weighted squared errors of both files are compared too, in the first 256 rows of every matrix
(needs the PyPI packages gguf and numpy); without one nibble takes the recipe nearest.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

LEVELS = "Q2_K Q3_K_M Q4_0 Q4_K_S Q4_K_M Q5_K_M Q6_K Q8_0 IQ4_NL IQ4_XS".split()
LEVELS_WITH_IMATRIX = LEVELS + "IQ3_S IQ3_XXS IQ2_S IQ2_XS IQ2_XXS IQ1_M IQ1_S".split()
ERROR_ROWS = 256


def timed(command):
    """Wall and CPU seconds, and the largest resident size in bytes."""
    start = time.perf_counter()
    with tempfile.TemporaryFile() as log:
        child = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(child.pid, 0)
        wall = time.perf_counter() - start
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            log.seek(0)
            sys.exit(f"{' '.join(command)}\n{log.read().decode(errors='replace')[-2000:]}")
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024


def measure(level, args, ours, theirs):
    """Runs both in turn; a row of the table."""
    recipe = ["--recipe", "importance", "--calib", args.imatrix] if args.imatrix else ["--recipe", "nearest"]
    imatrix = ["--imatrix", args.imatrix] if args.imatrix else []
    runs = {"nibble": [], "llama": []}
    for _ in range(args.rounds):
        runs["nibble"].append(timed([args.nibble, "quantize", args.model, "-o", ours, "--to", level, "--force",
                                     "--threads", str(args.threads), *recipe]))
        runs["llama"].append(timed([args.llama_quantize, *imatrix, args.model, theirs, level, str(args.threads)]))
    row = {"level": level, "bytes": os.path.getsize(ours), "llama_bytes": os.path.getsize(theirs)}
    for name, values in runs.items():
        for key, index in (("seconds", 0), ("cpu_seconds", 1), ("peak_memory", 2)):
            row[f"{name}_{key}"] = statistics.median(v[index] for v in values)
    row["speedup"] = row["llama_seconds"] / row["nibble_seconds"]
    row["cpu_speedup"] = row["llama_cpu_seconds"] / row["nibble_cpu_seconds"]
    if args.imatrix:
        import quantize_error
        whole = quantize_error.sums(args.model, ours, theirs, args.imatrix, ERROR_ROWS)["whole"]
        row["weighted_error"], row["llama_weighted_error"] = (float(weighted) for _, weighted in whole)
    return row


def show(row):
    line = ("{level:8} nibble {nibble_seconds:7.2f} s (CPU {nibble_cpu_seconds:7.2f})  llama-quantize {llama_seconds:7.2f} s "
            "(CPU {llama_cpu_seconds:7.2f})  {speedup:5.2f} x (CPU {cpu_speedup:5.2f} x)  {bytes} / {llama_bytes} bytes")
    if "weighted_error" in row:
        line += "  weighted error {weighted_error:.4e} / {llama_weighted_error:.4e}"
    print(line.format(**row), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nibble"), parser.add_argument("llama_quantize"), parser.add_argument("model")
    parser.add_argument("--levels", nargs="+")
    parser.add_argument("--imatrix")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    pathlib.Path(args.model).read_bytes()  # into the page cache
    results = []
    with tempfile.TemporaryDirectory(dir=pathlib.Path(args.model).parent) as folder:
        ours, theirs = f"{folder}/ours.gguf", f"{folder}/theirs.gguf"
        for level in args.levels or (LEVELS_WITH_IMATRIX if args.imatrix else LEVELS):
            results.append(measure(level, args, ours, theirs))
            if not args.json:
                show(results[-1])
    if args.json:
        print(json.dumps({"threads": args.threads, "rounds": args.rounds, "results": results}, indent=1))


if __name__ == "__main__":
    main()
