#!/usr/bin/env python3
"""What a scheme of Hugging Face checkpoints costs in quality: nibble's directory and a peer's, of one model and calibration text.

    scheme_quality.py NIBBLE CHECKPOINT CALIBRATION.txt WORK --text HELD_OUT.txt [--schemes gptq awq w8a8] [--windows 32]
                      [--chunks 16] [--threads 2] [--json]

gptq, awq: 4 bits in groups of 64, by GPTQModel with its defaults; w8a8: int8 weights a channel and int8 inputs a token, by
llm-compressor as its examples do it (SmoothQuant 0.8, then GPTQ). Both sides see the first --windows windows of 512 tokens of
CALIBRATION; nibble takes its usual recipe. `nibble eval` then runs both directories against CHECKPOINT on windows of the held-out
text. What exists in WORK is not made again, so that peers may be made by another Python: PEER_ONLY=1 stops after theirs.

Needs torch, transformers and, for the peer of each scheme, gptqmodel or llmcompressor."""
import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys

WINDOW = 512


def calibration(arguments):
    from transformers import AutoTokenizer
    tokenizer = AutoTokenizer.from_pretrained(arguments.checkpoint)
    ids = tokenizer(arguments.calibration.read_text(encoding="utf-8"))["input_ids"][:arguments.windows * WINDOW]
    return tokenizer, [ids[at:at + WINDOW] for at in range(0, len(ids), WINDOW)]


def by_gptqmodel(method, arguments, output):
    os.environ.setdefault("GPTQMODEL_CPU_WORKERS", "2")  # with one it refuses to load
    from gptqmodel import GPTQModel, QuantizeConfig
    from gptqmodel.quantization import FORMAT, METHOD
    _, windows = calibration(arguments)
    settings = {"method": METHOD.AWQ, "format": FORMAT.GEMM} if method == "awq" else {}
    model = GPTQModel.load(str(arguments.checkpoint), QuantizeConfig(bits=4, group_size=64, device="cpu", **settings))
    model.quantize([{"input_ids": ids, "attention_mask": [1] * WINDOW} for ids in windows], batch_size=1)
    model.save(str(output))


def by_llm_compressor(arguments, output):
    import datasets
    import torch
    from llmcompressor import oneshot
    from llmcompressor.modifiers.gptq import GPTQModifier
    from llmcompressor.modifiers.transform.smoothquant import SmoothQuantModifier
    from transformers import AutoModelForCausalLM
    tokenizer, windows = calibration(arguments)
    model = AutoModelForCausalLM.from_pretrained(arguments.checkpoint, dtype=torch.float32)
    oneshot(model=model, dataset=datasets.Dataset.from_dict({"input_ids": windows, "attention_mask": [[1] * WINDOW] * len(windows)}),
            recipe=[SmoothQuantModifier(smoothing_strength=0.8), GPTQModifier(targets="Linear", scheme="W8A8", ignore=["lm_head"])],
            max_seq_length=WINDOW, num_calibration_samples=len(windows))
    model.save_pretrained(output, save_compressed=True)
    tokenizer.save_pretrained(output)


SCHEMES = {"gptq": ("gptq:int4-g64", lambda *a: by_gptqmodel("gptq", *a)), "awq": ("awq:int4-g64", lambda *a: by_gptqmodel("awq", *a)),
           "w8a8": ("ct:w8a8", by_llm_compressor)}


def make(path, write):
    """write(another name), which becomes `path` once it is complete."""
    if path.exists():
        return path
    partial = path.with_name("making-" + path.name)
    shutil.rmtree(partial, ignore_errors=True)
    write(partial)
    partial.rename(path)
    return path


def run(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stderr[-2000:]}")
    return done.stdout


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("nibble", "checkpoint", "calibration", "work"):
        parser.add_argument(name, type=pathlib.Path)
    parser.add_argument("--text", type=pathlib.Path, required=True)
    parser.add_argument("--schemes", nargs="+", choices=SCHEMES, default=list(SCHEMES))
    for name, value in (("windows", 32), ("chunks", 16), ("threads", 2)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    rows = []
    for scheme in args.schemes:
        target, by_peer = SCHEMES[scheme]
        theirs = make(args.work / f"peer-{scheme}", lambda path: by_peer(args, path))
        if os.environ.get("PEER_ONLY"):
            continue
        ours = make(args.work / f"nibble-{scheme}", lambda path: run(
            args.nibble, "quantize", args.checkpoint, "-o", path, "--to", target, "--calib", args.calibration, "--calib-chunks", args.windows,
            "--threads", args.threads))
        found = json.loads(run(args.nibble, "eval", ours, theirs, "--ref", args.checkpoint, "--text", args.text, "--chunks", args.chunks,
                               "--threads", args.threads, "--json"))
        us, them = found["models"]
        rows.append({"scheme": scheme, "target": target, "ratio": us["kld_mean"] / them["kld_mean"],
                     **{f"{who}{part}": each[f"kld_mean{part}"] for who, each in (("ours", us), ("theirs", them)) for part in ("", "_se")}})
        if not args.json:
            print("{target:14} ours {ours:.5f} ± {ours_se:.5f}  theirs {theirs:.5f} ± {theirs_se:.5f}  ratio {ratio:.3f}".format(**rows[-1]), flush=True)
    if args.json:
        print(json.dumps({"rows": rows}, indent=1))


if __name__ == "__main__":
    main()
