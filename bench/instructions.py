#!/usr/bin/env python3
"""Instructions that products take per weight, by format and instruction set, as a Markdown table.

    instructions.py build/bench/bench/instructions > docs/instructions.md
    instructions.py build/bench/bench/instructions --emulated qemu-aarch64-static build/aarch64/bench/instructions neon

One token: instructions a weight. 24 tokens: instructions a weight and token. What more rows take more counts, so that
the arrangement of the inputs, done once for all rows, is left out. Processors execute them one by one; an emulator is
asked for a log of what it executes.
"""
import argparse
import datetime
import subprocess
import sys

FORMATS = "f16 q8_0 q4_0 q2_k q3_k q4_k q5_k q6_k iq2_xs iq3_xxs iq4_xs".split()
ISAS = "avx2 avx512 avx512vnni avx512bf16 neon".split()
TOKENS = (1, 24)
PANELS = {1: 4, 24: 2}  # of 16 rows, and twice as many; several tokens take two at a time
COLUMNS = 2048  # of random_matrix.h


def traced(program):
    """Counts of that program; None where this processor has no such instruction set."""

    def count(*product):
        done = subprocess.run([program, *product], capture_output=True, text=True)
        if done.returncode not in (0, 2):
            sys.exit(done.stderr)
        return int(done.stdout) if done.returncode == 0 else None

    return count


def emulated(emulator, program):
    """The same from the emulator's log, a line an instruction: once and twice the work."""

    def lines(*product):
        command = [emulator, "-singlestep", "-d", "exec,nochain", "-D", "/dev/stdout", program, *product]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
            count = sum(block.count(b"\n") for block in iter(lambda: child.stdout.read(1 << 20), b""))
        if child.returncode:
            sys.exit(f"{' '.join(command)}: exit code {child.returncode}")
        return count

    return lambda *product: lines(*product, "2") - lines(*product, "1")


def per_weight(count, name, isa, tokens):
    """Instructions a weight and token."""
    few, many = (count(name, isa, str(tokens), str(panels)) for panels in (PANELS[tokens], 2 * PANELS[tokens]))
    return None if few is None else (many - few) / (16 * PANELS[tokens] * COLUMNS * tokens)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--emulated", nargs=3, metavar=("EMULATOR", "PROGRAM", "ISA"))
    parser.add_argument("--formats", nargs="+", default=FORMATS)
    args = parser.parse_args()
    columns = [(isa, tokens) for isa in ISAS for tokens in TOKENS]
    table = {name: {key: per_weight(traced(args.program), name, *key) for key in columns} for name in args.formats}
    if args.emulated:
        *program, isa = args.emulated
        for name in args.formats:
            table[name] |= {(isa, tokens): per_weight(emulated(*program), name, isa, tokens) for tokens in TOKENS}
    columns = [key for key in columns if any(row[key] is not None for row in table.values())]
    print("# Instructions of the kernels\n")
    print(f"Written by `bench/instructions.py` on {datetime.date.today()}. Instructions of a product with one token, per weight, and with 24\n"
          "tokens, per weight and token: counted one by one as more rows take more; rounding and arranging the inputs, once for all rows, are left out.\n")
    print("| format | " + " | ".join(f"{isa}, {tokens} token{'s' * (tokens > 1)}" for isa, tokens in columns) + " |")
    print("|---|" + "---|" * len(columns))
    for name, row in table.items():
        print(f"| {name} | " + " | ".join("" if row[key] is None else f"{row[key]:.3g}" for key in columns) + " |")


if __name__ == "__main__":
    main()
