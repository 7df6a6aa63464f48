#!/usr/bin/env python3
"""From the start of the program to its first token, files in the page cache: nibble and stock llama.cpp, in turn on the same file.

    load.py NIBBLE LLAMA_BENCH MODEL.gguf ... [--threads 2] [--rounds 5] [--packed DIR] [--present 1.5] [--json]

LLAMA_BENCH is llama.cpp's llama-bench, which runs with OpenMP's default way of waiting and with OMP_WAIT_POLICY=passive.
--packed: a row more for a start that maps the packed weights which an earlier one has left in DIR.
Every program is timed as a whole, its end included, after as much memory as --present times the file has been written and given
back: of a virtual machine whose host has yet to find memory, whoever comes first would pay for that (ten times what it costs to use
it). With --present 0 it is measured as it comes.
`peer` is the one whose median over the rounds is best, `best_peer` that median in seconds, and `ratio` the median over rounds of ours /
that peer in the same round: below 1 nibble is faster.
"""
import argparse
import json
import mmap
import pathlib
import statistics
import time

from speed import output_of

PAGE = 4096


def make_present(size):
    if size := size // PAGE * PAGE:
        with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
            memory[::PAGE] = b"\1" * (size // PAGE)


def seconds(command, **environment):
    start = time.perf_counter()
    output_of(command, **environment)
    return time.perf_counter() - start


def programs(arguments, model):
    ours = [arguments.nibble, "run", model, "-p", "Once", "-n", 1, "--threads", arguments.threads]
    stock = [arguments.llama_bench, "-m", model, "-p", 0, "-n", 1, "-r", 1, "--no-warmup", "-t", arguments.threads]
    found = {"nibble": (ours, {})}
    if arguments.packed:
        found["nibble, packed"] = (ours + ["--packed", arguments.packed], {})
        seconds(found["nibble, packed"][0])  # leaves them
    return found | {"llama.cpp": (stock, {}), "llama.cpp, passive": (stock, {"OMP_WAIT_POLICY": "passive"})}


def compare(arguments, model):
    with open(model, "rb") as file:  # into the page cache
        while file.read(1 << 24):
            pass
    size = int(arguments.present * pathlib.Path(model).stat().st_size)
    all_programs = programs(arguments, model)
    rounds = []
    for _ in range(arguments.rounds):
        rounds.append({})
        for name, (command, environment) in all_programs.items():
            make_present(size)
            rounds[-1][name] = seconds(command, **environment)
    medians = {name: statistics.median(each[name] for each in rounds) for name in all_programs}
    best = min((name for name in medians if name.startswith("llama.cpp")), key=medians.get)
    return [{"kind": "load" + name.removeprefix("nibble"), "type": pathlib.Path(model).stem, "ours": medians[name],
             "best_peer": medians[best], "peer": best, "ratio": statistics.median(each[name] / each[best] for each in rounds),
             "all": rounds} for name in medians if name.startswith("nibble")]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nibble"), parser.add_argument("llama_bench"), parser.add_argument("models", nargs="+")
    parser.add_argument("--threads", type=int, default=2), parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--present", type=float, default=1.5), parser.add_argument("--packed")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = []
    for model in arguments.models:
        for found in compare(arguments, model):
            rows.append(found)
            if not arguments.json:
                print(f"{found['type']:24} {found['kind']:12} {found['ours']:6.2f} s, best peer {found['best_peer']:6.2f} s "
                      f"({found['peer']}), ratio {found['ratio']:.2f}", flush=True)
    if arguments.json:
        print(json.dumps({"threads": arguments.threads, "rounds": arguments.rounds, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
