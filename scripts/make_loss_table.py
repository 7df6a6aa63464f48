#!/usr/bin/env python3
"""Measures what levels cost, for `nibble advise`: writes src/advise/loss_table.inc.

    make_loss_table.py NIBBLE WORK NAME=MODEL[:TEXT,...]... [--levels A,B,...] [--windows N] [--out FILE]

Every level is made with importance rounding (an importance matrix of 3 windows that the model writes itself) and judged
against the model on three texts that nothing was calibrated on: prose (demo/held_out.txt), code (this repository's
scripts/make_model.py and src/base/*.cc) and math (arithmetic with words, made here). Activations are rounded to 8 bits,
as in running. WORK keeps files for the next run.

The table in the repository: make_loss_table.py build/release/nibble build/losses \\
    'SmolLM2-135M widened'=build/models/wide:prose,code SmolLM2-135M=build/models/plain:prose
"""
import argparse
import json
import pathlib
import random
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
LEVELS = "Q8_0 Q6_K Q5_K_M Q4_K_M Q4_K_S IQ4_XS Q4_0 Q3_K_M IQ3_M IQ3_XXS Q2_K IQ2_M IQ2_XXS IQ1_M".split()


def math_text():
    """Word problems with their answers, each different."""
    pick, lines = random.Random(1), []
    things = ["apples", "coins", "books", "stamps", "bricks", "tickets"]
    for _ in range(400):
        a, b, c = pick.randint(3, 40), pick.randint(2, 20), pick.randint(2, 9)
        thing = pick.choice(things)
        lines.append(pick.choice([
            f"Question: A box holds {a} {thing}. How many {thing} are in {b} boxes?\nAnswer: {a} × {b} = {a * b}.\n",
            f"Question: Anna has {a + b} {thing} and gives {b} away. How many are left?\nAnswer: {a + b} - {b} = {a}.\n",
            f"Question: {a * c} {thing} are shared by {c} children. How many does each get?\nAnswer: {a * c} / {c} = {a}.\n",
            f"Solve for x: {c}x + {b} = {c * a + b}\n{c}x = {c * a + b} - {b} = {c * a}\nx = {c * a} / {c} = {a}\n"]))
    return "\n".join(lines)


def texts(work):
    code = [ROOT / "scripts/make_model.py", *sorted((ROOT / "src/base").glob("*.cc"))]
    made = {"prose": (ROOT / "demo/held_out.txt").read_text(), "code": "\n".join(p.read_text() for p in code), "math": math_text()}
    for kind, text in made.items():
        (work / f"{kind}.txt").write_text(text)
    return {kind: work / f"{kind}.txt" for kind in made}


def run(nibble, *arguments):
    done = subprocess.run([nibble, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{arguments}: {done.stderr}")
    return json.loads(done.stdout) if "--json" in arguments else None


def measure(args, name, model, kinds):
    work = args.work / name.replace(" ", "-")
    work.mkdir(parents=True, exist_ok=True)
    matrix = work / "imatrix.gguf"
    if not matrix.exists():
        run(args.nibble, "calibrate", model, "-o", matrix, "--chunks", 3)
    made = {}
    for level in args.levels:
        made[level] = work / f"{level}.gguf"
        if not made[level].exists():
            run(args.nibble, "quantize", model, "-o", made[level], "--to", level, "--fast", "--calib", matrix)
        print(f"{name} {level}", file=sys.stderr, flush=True)
    facts = {level: run(args.nibble, "inspect", path, "--json") for level, path in made.items()}
    shapes = [t["shape"] for t in facts[args.levels[0]]["tensors"] if len(t["shape"]) == 2]
    fits = all(shape[0] % 256 == 0 for shape in shapes)
    rows = []
    for kind in kinds:
        kept = work / f"{kind}-{args.windows}.json"
        if not kept.exists():
            report = run(args.nibble, "eval", *made.values(), "--ref", model, "--text", args.texts[kind], "--chunks", args.windows, "--fast", "--json")
            kept.write_text(json.dumps(report))
        report = json.loads(kept.read_text())
        for level, each in zip(args.levels, report["models"]):
            rows.append([name, facts[level]["parameters"], fits, level, facts[level]["bits_per_weight"], kind,
                         each["kld_mean"], each["kld_mean_se"], each["same_top"], report["windows"]])
        print(f"{name} {kind}", file=sys.stderr, flush=True)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nibble")
    parser.add_argument("work", type=pathlib.Path)
    parser.add_argument("models", nargs="+", metavar="NAME=MODEL")
    parser.add_argument("--levels", type=lambda text: text.split(","), default=LEVELS)
    parser.add_argument("--windows", type=int, default=2)
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "src/advise/loss_table.inc")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    args.texts = texts(args.work)
    rows = []
    for pair in args.models:
        name, _, model = pair.partition("=")
        model, _, kinds = model.partition(":")
        rows += measure(args, name, model, kinds.split(",") if kinds else args.texts)
    windows = {kind: max(row[9] for row in rows if row[5] == kind) for kind in {row[5] for row in rows}}
    said = ", ".join(f"{kind} {n}" for kind, n in sorted(windows.items()))
    with open(args.out, "w") as out:
        out.write("// Made by scripts/make_loss_table.py, which says how and on what texts.\n")
        out.write(f"// Windows of 512 tokens: {said}. Importance rounding.\n")
        out.write("constexpr Measurement kMeasurements[] = {\n")
        for name, parameters, fits, level, bits, kind, kld, error, top, _ in rows:
            out.write(f'    {{"{name}", {parameters}, {str(fits).lower()}, "{level}", {bits:.3f}, "{kind}", '
                      f"{kld:.6f}, {error:.6f}, {top:.4f}}},\n")
        out.write("};\n")


if __name__ == "__main__":
    main()
