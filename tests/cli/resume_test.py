#!/usr/bin/env python3
"""Kills `nibble quantize` at many moments: each next run goes on, and the bytes at the end are those of a run in peace."""
import pathlib
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import checkpoint

KILLS = int(sys.argv[2]) if len(sys.argv) > 2 else 8


def content(output):
    """Of a file, or of all files of a directory."""
    if output.is_dir():
        return {path.name: path.read_bytes() for path in output.iterdir()}
    return output.read_bytes()


def remove(output):
    shutil.rmtree(output) if output.is_dir() else output.unlink()


class Runs:
    """`name` is the folder that a run writes into."""

    def __init__(self, program, folder, model, options):
        self.command = [*shlex.split(program), "quantize", model, *options, "--force"]
        self.folder = folder

    def output(self, name):
        (self.folder / name).mkdir(exist_ok=True)
        return self.folder / name / "out"

    def start(self, name):
        return subprocess.Popen([*self.command, "-o", self.output(name)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def finish(self, name):
        process = self.start(name)
        said = process.communicate()[1]
        if process.returncode != 0:
            sys.exit(f"exit code {process.returncode}: {said}")
        return content(self.output(name)), said


def interrupt(runs, name, whole, pick, seconds):
    """Kills runs at random points until KILLS died; returns how many went on from a journal. A file under the final name is whole."""
    went_on = killed = 0
    while killed < KILLS:
        process = runs.start(name)
        time.sleep(pick.uniform(0.02, 0.9) * seconds)
        process.send_signal(signal.SIGKILL)
        went_on += "going on from" in process.communicate()[1]
        if runs.output(name).exists():  # it was faster: start over
            if content(runs.output(name)) != whole:
                sys.exit("an unfinished file has its final name")
            remove(runs.output(name))
            seconds *= 0.9
        else:
            killed += 1
    return went_on


def main():
    program = sys.argv[1]
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        model = folder / "model"
        model.mkdir()
        checkpoint.write(model, random.Random(3))
        (folder / "text.txt").write_text(checkpoint.text(1))
        for options in (["--to", "Q4_K_M", "--recipe", "gptq"], ["--bpw", "6", "--recipe", "awq+gptq"],
                        ["--to", "gptq:int4-g32-actorder", "--recipe", "gptq"], ["--to", "Q3_K_M", "--recipe", "gptaq"]):
            runs = Runs(program, folder, model, [*options, "--calib", folder / "text.txt"])
            begin = time.monotonic()
            whole, _ = runs.finish("whole")
            seconds = time.monotonic() - begin
            went_on = interrupt(runs, "cut", whole, random.Random(7), seconds)
            again, said = runs.finish("cut")
            if again != whole:
                sys.exit(f"{options}: other bytes after {KILLS} kills")
            left = [path.name for path in (folder / "cut").iterdir() if path.name != "out"]
            if left:
                sys.exit(f"left over: {left}")
            print(f"{' '.join(options)}: {KILLS} kills, {went_on} runs went on from a journal, equal bytes")
            if went_on == 0:
                sys.exit("no run went on: the kills came too early to test anything")
            for name in ("whole", "cut"):
                remove(runs.output(name))


if __name__ == "__main__":
    main()
