#!/usr/bin/env python3
"""nibble advise: sizes are those of the files that quantize writes, and --apply writes the recommended one."""
import json
import pathlib
import random
import shlex
import subprocess
import sys
import tempfile

import checkpoint

# What a plan does not know of a file: the names and hashes of what it is calibrated with.
PROVENANCE = 512


def run(program, *arguments, code=0):
    done = subprocess.run([*shlex.split(program), *map(str, arguments)], capture_output=True, text=True)
    if done.returncode != code:
        sys.exit(f"{arguments}: exit code {done.returncode}, not {code}: {done.stderr}")
    return done.stdout, done.stderr


def main():
    program = sys.argv[1]
    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        model = folder / "model"
        model.mkdir()
        checkpoint.write(model, random.Random(3))
        words = folder / "text.txt"
        words.write_text(checkpoint.text(1))
        levels = ["Q8_0", "Q4_K_M", "Q4_0", "IQ2_M"]
        advice = json.loads(run(program, "advise", model, "--levels", ",".join(levels), "--ctx", 512, "--json")[0])
        for level in levels:
            found = next(each for each in advice["levels"] if each["level"] == level)
            out = folder / f"{level}.gguf"
            run(program, "quantize", model, "-o", out, "--to", level, "--fast", "--calib", words, "--calib-chunks", 1)
            size = out.stat().st_size
            print(f"{level}: {found['file_bytes']} bytes predicted, {size} written")
            if abs(found["file_bytes"] - size) > PROVENANCE:
                wrong.append(f"{level}: {size} bytes written, {found['file_bytes']} predicted")
            if not (found["prefill_tokens_per_second"] > 0 and found["decode_tokens_per_second"] > 0):
                wrong.append(f"{level}: no speed")

        # A configuration alone gives the same, but for the vocabulary that is not there.
        alone = folder / "alone"
        alone.mkdir()
        (alone / "config.json").write_text((model / "config.json").read_text())
        for path in (alone, alone / "config.json"):
            shapes = json.loads(run(program, "advise", path, "--levels", ",".join(levels), "--no-speed", "--json")[0])
            for one, other in zip(sorted(shapes["levels"], key=str), sorted(advice["levels"], key=str)):
                if one["level"] == other["level"] and one["memory"]["weights"] != other["memory"]["weights"]:
                    wrong.append(f"{path.name}: {one['level']}: other weights in memory")

        # A GGUF can also stay as it is, and is then as large as it is.
        quantized = folder / "Q4_0.gguf"
        mine = json.loads(run(program, "advise", quantized, "--no-speed", "--json")[0])
        kept = next(each for each in mine["levels"] if each["level"] == "as it is")
        if kept["file_bytes"] != quantized.stat().st_size:
            wrong.append(f"as it is: {kept['file_bytes']} bytes")

        out = folder / "applied.gguf"
        stdout, _ = run(program, "advise", model, "--levels", "Q8_0", "--no-speed", "--apply", "-o", out, "--fast", "--calib", words)
        if not out.exists() or "* Q8_0" not in stdout:
            wrong.append(f"--apply: nothing written: {stdout}")
        for arguments, said in ((("--apply",), "-o OUTPUT"), (("--ram", "1MB", "--apply", "-o", folder / "x"), "nothing fits"),
                                (("--for", "fun"), "chat, code, math or speed"), (("--levels", "Q4_9"), "Q4_9"),
                                (("--eval", folder / "text.txt"), "text.txt")):
            error = run(program, "advise", model, "--no-speed", *arguments, code=2)[1]
            if said not in error or error.count("\n") > 1:
                wrong.append(f"{arguments}: {error}")
    if wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
