#!/usr/bin/env python3
"""`nibble compare` from end to end: what it measures agrees with the other subcommands, and what goes wrong is said in one line."""
import html.parser
import json
import pathlib
import random
import shlex
import subprocess
import sys
import tempfile

import checkpoint

HOSTILE = "<script>alert('x')</script> \"&\" | `code` </style>"
QUICK = ["--threads", "2", "--rounds", "1", "--bench-prompt", "8", "--bench-tokens", "4", "--chunks", "2", "--ctx", "64", "--answer-tokens", "8"]
FAST = ["--recipe", "nearest"]


class Test:
    def __init__(self, program, folder):
        self.program, self.folder, self.wrong = program, folder, []

    def run(self, *arguments):
        return subprocess.run([*shlex.split(self.program), *map(str, arguments)], capture_output=True, text=True, cwd=self.folder)

    def expect(self, holds, what):
        if not holds:
            self.wrong.append(what)

    def entries(self):
        return sorted(str(p.relative_to(self.folder)) for p in self.folder.rglob("*"))

    def compare(self, *arguments, code=0):
        done = self.run("compare", "model", *QUICK, *arguments)
        self.expect(done.returncode == code, f"{arguments}: exit code {done.returncode}, not {code}: {done.stderr}")
        return done

    def refused(self, words, *arguments):
        """Exit code 2, one line that names what is wrong, nothing on stdout, and no file more or less."""
        before = self.entries()
        done = self.run("compare", *arguments)
        line = done.stderr[done.stderr.rfind("nibble: "):]
        self.expect(done.returncode == 2 and done.stdout == "" and line.count("\n") == 1, f"{arguments}: {done}")
        self.expect(all(word in line for word in words), f"{arguments}: none of {words} in {line}")
        self.expect(self.entries() == before, f"{arguments}: left {set(self.entries()) ^ set(before)}")


class Page(html.parser.HTMLParser):
    """Balanced, and made only of what a report is made of."""
    EMPTY = {"meta", "link"}
    KNOWN = EMPTY | set("line rect circle polyline html head title style body main section h1 h2 h3 p strong small div span table thead tbody "
                        "tr th td figure figcaption svg text article ins del dl dt dd".split())

    def __init__(self, text):
        super().__init__()
        self.open, self.wrong, self.counts, self.text = [], [], {}, ""
        self.feed(text)
        self.close()
        if self.open:
            self.wrong.append(f"not closed: {self.open}")

    def handle_starttag(self, tag, attrs):
        self.counts[tag] = self.counts.get(tag, 0) + 1
        if tag not in self.KNOWN or any(name.startswith("on") for name, _ in attrs):
            self.wrong.append(f"{tag} {attrs}")
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.EMPTY:
            self.open.pop()

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(f"</{tag}>")

    def handle_data(self, data):
        self.text += data


def agrees(test):
    """A report with everything in it; its figures are those of the other subcommands."""
    done = test.compare("--to", "Q8_0", "--to", "gguf:Q4_0", "--text", "text.txt", "--task", "task.jsonl", "--prompt", HOSTILE, "--prompts",
                        "prompts.txt", "-o", "report.html", "--markdown", "report.md", "--keep", "kept", "--json", *FAST)
    result = json.loads(done.stdout)
    models = {m["model"]: m for m in result["models"]}
    test.expect(list(models) == ["Q8_0", "Q4_0"], f"models {list(models)}")
    test.expect(test.entries() == sorted({*test.start, "report.html", "report.md", "kept", "kept/Q4_0.gguf", "kept/Q8_0.gguf"}),
                f"files {test.entries()}")
    for name, model in models.items():
        file = test.folder / f"kept/{name}.gguf"
        test.expect(model["bytes"] == file.stat().st_size, f"{name}: bytes {model['bytes']}")
        other = json.loads(test.run("eval", file, "--ref", "model", "--text", "text.txt", "--chunks", "2", "--ctx", "64", "--json").stdout)
        for key in ("perplexity", "kld_mean", "same_top"):
            test.expect(abs(model[key] - other[key]) < 1e-12 + 1e-9 * abs(other[key]), f"{name}: {key} {model[key]}, eval has {other[key]}")
        test.expect(abs(result["original"]["perplexity"] - other["reference_perplexity"]) < 1e-9, "perplexity of the original")
        test.expect(len(model["answers"]) == 3 and model["task_accuracy"] == 1, f"{name}: answers")
        made = json.loads(test.run("quantize", "model", "-o", "again.gguf", "--force", "--to", name, "--json", *FAST).stdout)
        errors = {t["name"]: t["squared_error"] / t["squared_weight"] for t in made["tensors"] if t.get("squared_weight")}
        for matrix in model["matrices"]:
            full = (f"blk.{matrix['layer']}." if "layer" in matrix else "") + matrix["role"] + ".weight"
            test.expect(abs(matrix["error"] - errors[full]) < 1e-3 * errors[full], f"{name}: {full}: {matrix['error']}, {errors[full]}")
    (test.folder / "again.gguf").unlink()
    test.expect(models["Q4_0"]["kld_mean"] > models["Q8_0"]["kld_mean"] > 0, "Q8_0 is nearer than Q4_0")
    page = Page((test.folder / "report.html").read_text())
    test.expect(not page.wrong, f"page: {page.wrong[:5]}")
    test.expect(page.counts.get("svg", 0) >= 6 and "Q4_0" in page.text and HOSTILE in page.text, f"page: {page.counts}")
    test.expect("<script" not in (test.folder / "report.html").read_text(), "a prompt became markup")
    text = (test.folder / "report.md").read_text()
    test.expect("| Q4_0 " in text and "Nearest to the original: Q8_0" in text and "    " + HOSTILE in text, text)


def some_fail(test):
    """One target cannot be made, one file is broken: the rest is reported, and nothing temporary stays."""
    before = test.entries()
    done = test.compare("kept/Q8_0.gguf", "broken.gguf", "--file", "kept/Q4_0.gguf", "--to", "Q9_9", "--to", "Q4_0", "--text", "text.txt",
                        "-o", "some.html", *FAST, code=3)
    test.expect(set(test.entries()) - set(before) == {"some.html"}, f"left {set(test.entries()) ^ set(before)}")
    test.expect("- Q9_9: " in done.stdout and "- broken.gguf: " in done.stdout, done.stdout)
    test.expect(sum(line.startswith("| Q") and "±" in line for line in done.stdout.splitlines()) >= 3, done.stdout)
    page = Page((test.folder / "some.html").read_text())
    test.expect(not page.wrong and "Q9_9" in page.text, f"page: {page.wrong[:5]}")
    (test.folder / "some.html").unlink()


def without_text(test):
    done = test.compare("kept/Q8_0.gguf", "--json")
    model = json.loads(done.stdout)["models"][0]
    test.expect("kld_mean" not in model and model["decode_tokens_per_second"] > 0, f"{model}")


def bad_input(test):
    model, made = ["model", *QUICK], ["--to", "Q8_0", *FAST]
    test.refused(["nothing to compare"], *model)
    test.refused(["SRC"])
    test.refused(["none"], "none", *made, "--keep", "new")
    test.refused(["twice"], *model, "--to", "Q8_0", "--to", "gguf:Q8_0")
    test.refused(["no/such"], *model, *made, "-o", "no/such/report.html")
    test.refused(["kept", "directory"], *model, *made, "-o", "kept")
    test.refused(["no/such"], *model, *made, "--keep", "no/such/kept")
    test.refused(["no.txt"], *model, *made, "--text", "no.txt", "-o", "r.html")
    test.refused(["short.txt", "fewer"], *model, *made, "--text", "short.txt", "-o", "r.html")
    test.refused(["no.jsonl"], *model, *made, "--task", "no.jsonl", "-o", "r.html")
    test.refused(["no prompts"], *model, *made, "--prompts", "empty.txt")
    test.refused(["UTF-8"], *model, *made, "--prompts", "latin.txt")
    test.refused(["prompt"], *model, *made, "--prompts", "task_bad.jsonl")
    test.refused(["prompt is empty"], *model, *made, "--prompt", "")
    test.refused(["Q9_9"], *model, "--to", "Q9_9", "--text", "text.txt", "-o", "r.html")
    test.refused(["--force"], *model, *made, "--keep", "kept")
    test.refused(["--frobnicate"], *model, "--frobnicate")
    test.expect("Examples:" in test.run("compare", "--help").stdout, "--help has no examples")


def main():
    with tempfile.TemporaryDirectory() as folder:
        test = Test(sys.argv[1], pathlib.Path(folder))
        (test.folder / "model").mkdir()
        checkpoint.write(test.folder / "model", random.Random(3))
        for name, text in {"text.txt": checkpoint.text(1), "short.txt": "short", "empty.txt": "\n \n", "prompts.txt": "One?\n\nTwo?\r\n",
                           "task.jsonl": '{"prompt": "a", "expected": "", "max_tokens": 4}\n', "task_bad.jsonl": '{"question": "a"}\n',
                           "broken.gguf": "GGUF"}.items():
            (test.folder / name).write_text(text)
        (test.folder / "latin.txt").write_bytes(b"caf\xe9\n")
        test.start = test.entries()
        for check in (agrees, some_fail, without_text, bad_input):
            check(test)
        if test.wrong:
            sys.exit("\n".join(test.wrong))


if __name__ == "__main__":
    main()
