"""Models with a turned residual stream compute what they did, in a GGUF and in a directory, from either.

Usage: rotate_test.py PROGRAM TINY: TINY holds small checkpoints of other architectures.
"""
import json
import pathlib
import random
import shlex
import subprocess
import sys
import tempfile

import checkpoint


class Test:
    def __init__(self, command, folder):
        self.command, self.folder = shlex.split(command), folder
        self.model, self.words = folder / "model", folder / "text.txt"
        self.model.mkdir()
        checkpoint.write(self.model, random.Random(3))
        self.words.write_text(checkpoint.text(1))

    def nibble(self, *arguments, expect=0):
        done = subprocess.run([*self.command, *map(str, arguments)], capture_output=True, text=True)
        if done.returncode != expect:
            sys.exit(f"{arguments}: exit code {done.returncode}, not {expect}: {done.stderr}")
        return done

    def rotate(self, source, output, target):
        return self.nibble("quantize", source, "-o", output, "--to", target, "--recipe", "rotate+nearest", "--calib", self.words)

    def divergence(self, file):
        done = self.nibble("eval", file, "--ref", self.model, "--text", self.words, "--chunks", 2, "--ctx", 128, "--json")
        return json.loads(done.stdout)["kld_mean"]

    def names(self, file):
        return {tensor["name"] for tensor in json.loads(self.nibble("inspect", file, "--json").stdout)["tensors"]}

    def function_stays(self):
        plain = self.folder / "plain.gguf"
        self.nibble("quantize", self.model, "-o", plain, "--to", "F32", "--recipe", "nearest")
        assert "output.weight" not in self.names(plain)
        for source in (self.model, plain):
            turned = self.folder / f"{source.name}-turned.gguf"
            said = self.rotate(source, turned, "F32").stderr
            assert "output.weight" in said and "larger" in said, said
            assert "output.weight" in self.names(turned)
            # Logits p and q that differ by d everywhere diverge by d^2 / 2 at most; d is some hundred units of float32 of logits
            # below 10: 264 * 2^-24 * 10 = 1.6e-4.
            found = self.divergence(turned)
            assert abs(found) < 1.6e-4 ** 2, found
            assert self.divergence(turned) == found
        # Untied it costs another embedding, and what names it.
        assert turned.stat().st_size > plain.stat().st_size

    def directory(self):
        turned = self.folder / "turned"
        self.rotate(self.model, turned, "ct:w8a16-g32")
        config = json.loads((turned / "config.json").read_text())
        assert config["tie_word_embeddings"] is False, config
        assert "lm_head.weight" in self.names(turned), self.names(turned)
        plain = self.folder / "plain"
        self.nibble("quantize", self.model, "-o", plain, "--to", "ct:w8a16-g32", "--recipe", "nearest")
        assert json.loads((plain / "config.json").read_text())["tie_word_embeddings"] is True
        assert self.divergence(turned) < 2 * self.divergence(plain)

    def planned(self):
        said = self.nibble("quantize", self.model, "--to", "Q4_0", "--recipe", "rotate+nearest", "--dry-run").stdout
        assert any("output.weight" in line and "tied" in line for line in said.splitlines()), said

    def refused(self, tiny):
        for options in (["--dry-run"], ["-o", self.folder / "no.gguf", "--calib", self.words]):
            said = self.nibble("quantize", tiny / "gemma3", "--to", "Q8_0", "--recipe", "rotate+nearest", *options, expect=2).stderr
            assert "gemma3" in said and "hadamard" in said and said.count("\n") == 1, said
        assert not (self.folder / "no.gguf").exists()


def main():
    program, tiny = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        test = Test(program, pathlib.Path(folder))
        test.function_stays()
        test.directory()
        test.planned()
        test.refused(pathlib.Path(tiny))
    print("turned models compute what they did")


if __name__ == "__main__":
    main()
