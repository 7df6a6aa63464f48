#!/usr/bin/env python3
"""Measures how fast nibble runs here, and writes it down: docs/performance.md.

    performance.py NIBBLE MODEL.gguf ... [-o docs/performance.md] [--threads 1,2] [--contexts 512,8192] [--batches 1,64]
                   [--caches f16,q8_0] [--rounds 3] [--tokens 16] [--seconds 500] [--prefix COMMAND]

Every figure is one of `nibble bench --json`, the median of its rounds. --prefix is put before every such command (a script
that keeps the machine quiet, say). What a run of a model would take is estimated first: contexts, batches and rounds that
would take longer than --seconds are left out, and the page says so. No packages needed.
"""
import argparse
import json
import pathlib
import platform
import re
import shlex
import subprocess
import sys


def numbers(text):
    return [int(part) for part in text.split(",")]


def bench(arguments, model, *options, rounds=None):
    command = [*shlex.split(arguments.prefix), arguments.nibble, "bench", model, "--json", "-n", arguments.tokens,
               "-r", rounds or arguments.rounds, *options]
    print(" ".join(map(str, command)), file=sys.stderr, flush=True)
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    return json.loads(done.stdout)


def affordable(seconds, values, cost):
    """The first of values that together take no longer than so many seconds."""
    taken = []
    for value in sorted(values):
        seconds -= cost(value)
        if seconds < 0:
            break
        taken.append(value)
    return taken


class Measured:
    """One model."""

    def __init__(self, arguments, model):
        self.name = pathlib.Path(model).stem
        most = max(arguments.threads)
        self.by_threads = {n: bench(arguments, model, "--threads", n, "-p", 512, rounds=1) for n in arguments.threads}
        plain = self.by_threads[most]
        rate = plain["decode_tokens_per_second"]
        fixed = plain["load_seconds"] + 512 / plain["prefill_tokens_per_second"]
        rounds = max(1, min(arguments.rounds, int((arguments.seconds - fixed) * rate / (8 * arguments.tokens))))
        left = arguments.seconds - fixed - rounds * arguments.tokens / rate
        step = rounds * arguments.tokens / rate  # seconds; attention and batches cost more than one token
        common = ("--threads", most, "-p", 64)
        contexts = affordable(left, arguments.contexts, lambda context: step * (1 + context / 4096))
        self.by_cache = {cache: bench(arguments, model, *common, "--cache", cache, "--ctx", joined(contexts), rounds=rounds)
                         for cache in arguments.caches}
        batches = affordable(left, arguments.batches, lambda batch: step * (1 + batch / 4))
        self.batched = bench(arguments, model, *common, "--batch", joined(batches), rounds=rounds)
        self.contexts, self.batches, self.plain = contexts, batches, plain

    def rate(self, report, sequences, context):
        for each in report["decodes"]:
            if (each["sequences"], each["context"]) == (sequences, context):
                return each["tokens_per_second"]
        return report["decode_tokens_per_second"] if (sequences, context) == (1, 0) else None


def joined(values):
    return ",".join(map(str, values)) or "0"


def figure(value):
    return "" if value is None else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def table(head, rows):
    return ["| " + " | ".join(head) + " |", "|" + "---|" * len(head),
            *("| " + " | ".join(str(cell) for cell in row) + " |" for row in rows), ""]


def processor():
    found = re.search(r"^model name\s*: (.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.M)
    return found[1] if found else platform.machine()


def machine(arguments, models):
    found = max((model.plain for model in models), key=lambda plain: plain["machine"]["bytes_per_second"])
    energy = ", ".join(found["energy_counters"]) or f"not measured ({found['no_energy_counter']})"
    return [f"Machine: {processor()}, {max(arguments.threads)} threads, kernels for {found['isa']}. All threads together read "
            f"{found['machine']['bytes_per_second'] * 1e-9:.1f} GB/s of plain memory and multiply and add "
            f"{found['machine']['int8_operations_per_second'] * 1e-9:.0f} billion 8-bit numbers a second in registers: these are the "
            f"limits that shares refer to. Energy: {energy}.", ""]


def threads_part(models):
    rows = []
    for model in models:
        for threads, report in model.by_threads.items():
            limits = report["machine"]
            rows.append((model.name, f"{report['file_bytes'] * 1e-6:.0f}", threads, figure(report["prefill_tokens_per_second"]),
                         f"{100 * report['prefill_tokens_per_second'] * report['products'] / limits['int8_operations_per_second']:.0f}%",
                         figure(report["decode_tokens_per_second"]),
                         f"{100 * report['decode_tokens_per_second'] * report['read_bytes'] / limits['bytes_per_second']:.0f}%",
                         f"{report['load_seconds']:.2f}", f"{report['first_token_seconds']:.2f}"))
    return ["## Threads", "", "Prompts of 512 tokens. Shares are those of the limits with as many threads: arithmetic for the prompt, memory for "
            "the answer. The first token counts from nothing loaded, with the file in the page cache.", "",
            *table(("model", "MB", "threads", "prompt, tokens/s", "of arithmetic", "answer, tokens/s", "of memory", "load, s",
                    "first token, s"), rows)]


def contexts_part(arguments, models):
    rows = [(model.name, cache, f"{report['cache_token_bytes'] / 1024:.1f}",
             *(figure(model.rate(report, 1, context)) for context in [0, *arguments.contexts]))
            for model in models for cache, report in model.by_cache.items()]
    return ["## Behind long texts", "", "Tokens/s of an answer with so many tokens in the cache, by the type of keys and values (`--cache`).", "",
            *table(("model", "cache", "KiB a token", *map(str, [0, *arguments.contexts])), rows)]


def batches_part(arguments, models):
    rows = [(model.name, *(figure(model.rate(model.batched, batch, 0)) for batch in arguments.batches)) for model in models]
    return ["## Sequences together", "", "Tokens/s of all of them, with one pass over the weights a step.", "",
            *table(("model", *map(str, arguments.batches)), rows)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nibble"), parser.add_argument("models", nargs="+")
    parser.add_argument("-o", "--output", type=pathlib.Path, default=pathlib.Path("docs/performance.md"))
    parser.add_argument("--threads", type=numbers, default=[1, 2])
    parser.add_argument("--contexts", type=numbers, default=[512, 1024, 2048, 4096, 8192])
    parser.add_argument("--batches", type=numbers, default=[1, 2, 4, 8, 16, 32, 64])
    parser.add_argument("--caches", type=lambda text: text.split(","), default=["f16", "q8_0", "q4_0"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=16, help="of a round, for each sequence")
    parser.add_argument("--seconds", type=float, default=500, help="that one command may take, about")
    parser.add_argument("--prefix", default="")
    arguments = parser.parse_args()
    models = [Measured(arguments, model) for model in arguments.models]
    version = subprocess.run([arguments.nibble, "--version"], capture_output=True, text=True).stdout.strip()
    lines = ["# Performance", "", f"Written by `bench/performance.py` with nibble {version}; medians of up to {arguments.rounds} rounds of "
             f"{arguments.tokens} tokens. Empty cells would have taken longer than {arguments.seconds:.0f} seconds.", "",
             *machine(arguments, models), *threads_part(models), *contexts_part(arguments, models), *batches_part(arguments, models)]
    arguments.output.write_text("\n".join(lines).rstrip() + "\n")


if __name__ == "__main__":
    main()
