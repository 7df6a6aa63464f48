#!/usr/bin/env python3
"""What a level costs in quality: nibble's file and llama-quantize's, of one model and calibration text, judged by stock llama.cpp.

    quality.py NIBBLE LLAMA_QUANTIZE LLAMA_IMATRIX CHECKPOINT CALIBRATION.txt WORK --text HELD_OUT.txt [--text OTHER.jsonl ...]
               [--levels Q4_K_M ...] [--recipe gptq] [--calib-chunks N] [--imatrix-chunks N] [--chunks 8] [--threads 2] [--json]

CHECKPOINT is converted to F16 once. llama-quantize gets the importance matrix that llama-imatrix makes of the first --imatrix-chunks
windows of 512 tokens of CALIBRATION (of all of it if not given); nibble quantizes the same F16 file with --recipe on --calib-chunks such
windows (its default if not given). Both files and the F16 file then run in stock llama.cpp (the package xllamacpp) on windows of
512 tokens; the mean KL divergence from F16 is over the second half of each window. Printed for each level and text: both
divergences, ours / theirs, and the sizes of both files. A .jsonl text is the questions of a task as `nibble eval` takes
them, each with its right ending. What exists in WORK is not made again."""
import argparse
import json
import pathlib
import subprocess
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tests" / "interop"))
import llama  # noqa: E402

WINDOW = 512


def make(path, command):
    """Runs a command that writes `path`, under another name until it is complete."""
    if path.exists():
        return path
    partial = path.with_name("making-" + path.name)
    done = subprocess.run([str(part).replace("{}", str(partial)) for part in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stderr[-2000:]}")
    partial.rename(path)
    return path


def text_of(path):
    content = path.read_text(encoding="utf-8")
    if path.suffix != ".jsonl":
        return content
    questions = map(json.loads, content.splitlines())
    return "\n".join(f"{question['context']} {question['endings'][question['label']]}" for question in questions)


def predictions(path, text, chunks, threads):
    """Log probabilities for the second half of every window, one window at a time."""
    with llama.Model(path, context=WINDOW, threads=threads) as model:
        tokens = model.tokenize(text)
        for at in range(0, min(chunks, len(tokens) // WINDOW) * WINDOW, WINDOW):
            yield llama.log_softmax(model.logits(tokens[at:at + WINDOW], WINDOW // 2))


def divergence(reference, other):
    """Mean KL divergence of a position, and its standard error over the positions."""
    each = np.concatenate([(np.exp(p) * (p - q)).sum(axis=-1, dtype=np.float64) for p, q in zip(reference, other, strict=True)])
    return float(each.mean()), float(each.std() / len(each) ** 0.5)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("nibble", "llama_quantize", "llama_imatrix", "checkpoint", "calibration", "work"):
        parser.add_argument(name, type=pathlib.Path)
    parser.add_argument("--text", type=pathlib.Path, action="append", required=True)
    parser.add_argument("--levels", nargs="+", default=["Q4_K_M"])
    parser.add_argument("--recipe", default="gptq")
    parser.add_argument("--calib-chunks", type=int)
    parser.add_argument("--imatrix-chunks", type=int, default=-1)
    parser.add_argument("--chunks", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    f16 = make(args.work / "F16.gguf", [args.nibble, "convert", args.checkpoint, "-o", "{}", "--to", "F16"])
    imatrix = make(args.work / "imatrix.gguf", [args.llama_imatrix, "-m", f16, "-f", args.calibration, "-o", "{}", "-c", WINDOW,
                                                  "--chunks", args.imatrix_chunks, "-t", args.threads])
    texts = {path: text_of(path) for path in args.text}
    references = {path: list(predictions(f16, text, args.chunks, args.threads)) for path, text in texts.items()}
    windows = ["--calib-chunks", args.calib_chunks] if args.calib_chunks else []
    rows = []
    for level in args.levels:
        theirs = make(args.work / f"stock-{level}.gguf", [args.llama_quantize, "--imatrix", imatrix, f16, "{}", level, args.threads])
        name = f"{args.recipe}-{args.calib_chunks or 'all'}-{level}"
        ours = make(args.work / f"{name}.gguf", [args.nibble, "quantize", f16, "-o", "{}", "--to", level, "--recipe", args.recipe, "--calib",
                                                 args.calibration, *windows, "--threads", args.threads])
        for path, text in texts.items():
            (us, us_se), (them, them_se) = (divergence(references[path], predictions(file, text, args.chunks, args.threads)) for file in (ours, theirs))
            rows.append({"level": level, "text": path.name, "ours": us, "ours_se": us_se, "theirs": them, "theirs_se": them_se,
                         "ratio": us / them, "bytes": ours.stat().st_size, "peer_bytes": theirs.stat().st_size})
            if not args.json:
                row = rows[-1]
                print(f"{level:8} {path.name:26} ours {us:.5f} ± {us_se:.5f}  theirs {them:.5f} ± {them_se:.5f}  ratio {us / them:.3f}  "
                      f"bytes {row['bytes']} / {row['peer_bytes']} ({row['bytes'] - row['peer_bytes']:+d})", flush=True)
    if args.json:
        print(json.dumps({"recipe": args.recipe, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
