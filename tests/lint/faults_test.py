#!/usr/bin/env python3
"""Plants one fault of each kind in a small tree and checks that the lint finds it, and nothing in the clean tree."""
import pathlib
import shutil
import sys
import tempfile

import lint

CLEAN = {
    ".clang-format": "BasedOnStyle: Google\nColumnLimit: 100\n",
    "ARCHITECTURE.md": "| `base/` | results |\n| `format/` | values |\n| `round/` | codes |\n",
    "src/base/a.h": "#pragma once\n",
    "src/format/CMakeLists.txt": "nibble_register(format q4_0)\nnibble_register(format f32)\n",
    "src/format/q4_0.cc": '#include "base/a.h"\nconst char* id = "q4_0";\n',
    "src/round/r.cc": '#include "format/f.h"\n#include "nibble/error.h"\nconst char* norm = "f32";  // not "q4_0"\n',
    "include/nibble/error.h": "#pragma once\n",
}
FAULTS = {
    "layers": [("src/base/b.cc", '#include "format/f.h"\n'), ("include/nibble/x.h", '#include "base/a.h"\n'),
               ("src/base/c.cc", '#include "cli/command.h"\n'), ("src/new/a.cc", "\n")],
    "format_ids": [("src/round/s.cc", 'bool odd(const Format& f) { return f.id() == "q4_0"; }\n'),
                   ("cli/x.cc", 'if (name == "Q4_0") return;\n')],
    "words": [("src/base/d.cc", "// TO" "DO: later\n"), ("docs/x.md", "see /wo" "rk/dev\n")],
    "length": [("src/base/long.cc", "\n" * (lint.MAX_LINES + 1))],
    "style": [("src/base/ugly.cc", "int  f( ){return 1 ;}\n")],
}


def tree(extra=()):
    root = pathlib.Path(tempfile.mkdtemp(prefix="nibble-lint-"))
    for name, text in [*CLEAN.items(), *extra]:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def main():
    wrong = []
    for rule, check in lint.RULES.items():
        if rule == "style" and not shutil.which("clang-format-14"):
            continue
        for fault in [None, *FAULTS[rule]]:
            root = tree([fault] if fault else [])
            found = list(check(root))
            shutil.rmtree(root)
            if bool(found) != bool(fault):
                wrong.append(f"{rule}: {'missed ' + fault[0] if fault else 'found in the clean tree: ' + found[0]}")
    print("\n".join(wrong) or "every planted fault was found")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
