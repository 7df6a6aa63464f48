"""What interop tests share: the program under test, the models it works on, and visible skips."""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = os.environ.get("NIBBLE_PROGRAM", str(ROOT / "build" / "release" / "nibble"))
LOGITS = os.environ.get("NIBBLE_LOGITS", str(ROOT / "build" / "release" / "tests" / "logits"))
TEXT = ROOT / "demo" / "held_out.txt"


def skip(reason):
    """Ends the test as skipped, or as failed where NIBBLE_NO_SKIP says that nothing may be missing."""
    print(f"SKIP: {reason}")
    sys.exit(1 if os.environ.get("NIBBLE_NO_SKIP") else 77)


def model(kind):
    """Path of the checkpoint "plain" or "wide" that `make models` makes (or that NIBBLE_MODELS holds)."""
    path = pathlib.Path(os.environ.get("NIBBLE_MODELS", ROOT / "build" / "models")) / kind
    if not (path / "model.safetensors").exists():
        skip(f"no checkpoint {path} (make models creates it)")
    return path


def nibble(*args, expect=0):
    """Runs the program; its standard output. Fails the test on another exit code than `expect`."""
    done = subprocess.run([PROGRAM, *map(str, args)], stdin=subprocess.DEVNULL, capture_output=True)
    if done.returncode != expect:
        sys.exit(f"nibble {' '.join(map(str, args))}: exit code {done.returncode}, not {expect}\n{done.stderr.decode(errors='replace')}")
    return done.stdout.decode("utf-8")


def nibble_json(*args):
    return json.loads(nibble(*args, "--json"))


def scratch():
    """A directory of this test's own, removed with the object."""
    return tempfile.TemporaryDirectory(prefix="nibble-interop-")


class Checks:
    """Collects what is wrong, so that one run shows everything."""

    def __init__(self):
        self.wrong = []

    def equal(self, what, got, want):
        if got != want:
            self.wrong.append(f"{what}: {got!r}, expected {want!r}")

    def at_most(self, what, got, bound):
        print(f"{what}: {got:.6g} (at most {bound:.6g})")
        if not got <= bound:
            self.wrong.append(f"{what}: {got:.6g} is more than {bound:.6g}")

    def judge(self, what, got, bound, fault):
        """At most `bound`; with a fault planted beyond it, or the check finds nothing."""
        if not fault:
            self.at_most(what, got, bound)
            return
        print(f"{what}: {got:.3g} with the fault planted, bound {bound:.3g}")
        if got <= bound:
            self.wrong.append("the planted fault went unnoticed")

    def finish(self):
        print("\n".join(self.wrong) or "all right")
        sys.exit(1 if self.wrong else 0)
