#!/usr/bin/env python3
"""Rules of the house that a compiler does not check. No packages needed.

    lint.py ROOT [RULE...]

Prints one line a finding (file:line: what) and exits 1 if there are any; 77 where a tool is missing (clang-format).
"""
import pathlib
import re
import shutil
import subprocess
import sys

MAX_LINES = 800
CODE = (".h", ".cc", ".c", ".cpp", ".rs", ".py", ".sh", ".cmake")
SKIPPED = ("build", ".git", ".venv", ".venv-torch", "__pycache__", "corpus", "node_modules", "target")

# Where a format may be called by its name: where it is defined, multiplied with and given a number in files, and in
# the tables of levels. f32 and f16 are plain number types that norms, biases and matrices of any file may have.
FORMAT_NAMING = ("src/format/", "src/kernel/", "src/container/", "src/plan/")
PLAIN_TYPES = {"f32", "f16", "bf16"}

# Spelled in halves, so that this file does not find itself.
FORBIDDEN = [re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b"), re.compile(r"/wo" r"rk/"), re.compile(r"\bshared/(da" r"ta|tools|fixtures)")]


def files(root, *folders, suffixes=CODE):
    for folder in folders or (".",):
        for path in sorted((root / folder).rglob("*")):
            inside = path.relative_to(root)
            if path.suffix in suffixes and path.is_file() and not any(p in SKIPPED for p in inside.parts):
                yield inside, path.read_text(encoding="utf-8", errors="replace").splitlines()


def folder_order(root):
    """The folders of src/ in the order that ARCHITECTURE.md lists them: lines like "| `base/` | ... |"."""
    text = (root / "ARCHITECTURE.md").read_text(encoding="utf-8")
    return re.findall(r"^\| `(\w+)/` \|", text, re.M)


def layers(root):
    """A folder of src/ includes only itself, what stands before it in ARCHITECTURE.md, and the public headers."""
    order = folder_order(root)
    rank = {name: i for i, name in enumerate(order)}
    for path in sorted(p.name for p in (root / "src").iterdir() if p.is_dir()):
        if path not in rank:
            yield f"src/{path}: not in the table of folders in ARCHITECTURE.md"
    for path, lines in files(root, "src", "include", "cli", suffixes=(".h", ".cc")):
        top, here = path.parts[0], path.parts[1]
        for number, line in enumerate(lines, 1):
            included = re.match(r'\s*#\s*include\s+"([^"/]+)/', line)
            if not included:
                continue
            target = included[1]
            if top == "include" and target != "nibble":
                yield f"{path}:{number}: the public API includes {target}/ of src"
            elif top == "src" and target == "cli":
                yield f"{path}:{number}: the library includes the program"
            elif top == "src" and target in rank and here in rank and rank[target] > rank[here]:
                yield f"{path}:{number}: {here}/ includes {target}/, which stands after it in ARCHITECTURE.md"


def format_ids(root):
    """No decision over format ids outside FORMAT_NAMING: such code would have to change for every new format."""
    registered = re.findall(r"nibble_register\(format (\w+)", (root / "src/format/CMakeLists.txt").read_text())
    ids = "|".join(sorted(set(registered) - PLAIN_TYPES))
    literal = re.compile(rf'"({ids})"', re.I)
    for path, lines in files(root, "src", "include", "cli", suffixes=(".h", ".cc")):
        if str(path).startswith(FORMAT_NAMING):
            continue
        for number, line in enumerate(lines, 1):
            found = literal.search(line.split("//")[0])
            if found:
                yield f"{path}:{number}: names the format {found[0]}; ask the format for what you need instead"


def words(root):
    """No marks of unfinished work, and nothing of the machine that somebody happened to work on."""
    for path, lines in files(root, suffixes=CODE + (".md", ".txt", ".json")):
        for number, line in enumerate(lines, 1):
            for pattern in FORBIDDEN:
                found = pattern.search(line)
                if found:
                    yield f"{path}:{number}: '{found[0]}' does not belong in the repository"


def length(root):
    for path, lines in files(root):
        if len(lines) > MAX_LINES:
            yield f"{path}: {len(lines)} lines, {MAX_LINES} at most: cut it along a seam"


def style(root):
    """clang-format finds nothing to change."""
    tool = shutil.which("clang-format-14")
    if not tool:
        print("SKIP: no clang-format-14 here (scripts/bootstrap.sh lint installs it)")
        sys.exit(77)
    sources = [str(p) for p, _ in files(root, suffixes=(".h", ".cc"))]
    run = subprocess.run([tool, "--dry-run", "--Werror", "--ferror-limit=1", *sources], cwd=root, capture_output=True, text=True)
    if run.returncode:
        for line in sorted(set(re.findall(r"^(.+?:\d+):\d+: error", run.stderr, re.M))):
            yield f"{line}: not in the format of clang-format-14 (clang-format-14 -i mends it)"


RULES = {f.__name__: f for f in (layers, format_ids, words, length, style)}


def main():
    root = pathlib.Path(sys.argv[1])
    findings = [f"{name}: {finding}" for name in sys.argv[2:] or RULES for finding in RULES[name](root)]
    print("\n".join(findings) or "lint: nothing found")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
