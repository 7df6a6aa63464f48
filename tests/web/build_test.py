"""The committed page is what its sources give, byte for byte."""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

WEB = pathlib.Path(__file__).parents[2] / "web"


def main():
    node = shutil.which("node")
    vite = WEB / "node_modules/vite/bin/vite.js"
    if not node or not vite.exists():
        print("SKIP: no node, or no web/node_modules (make test creates it)")
        return 1 if os.environ.get("NIBBLE_NO_SKIP") else 77
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([node, vite, "build", "--outDir", folder, "--emptyOutDir", "--logLevel", "error"], cwd=WEB, check=True)
        found = {p.name: p.read_bytes() for p in pathlib.Path(folder).iterdir()}
    if found == {"index.html": (WEB / "dist/index.html").read_bytes()}:
        return 0
    print("web/dist/index.html is not what web/ gives: cd web && npm ci && npm run build, and commit it")
    return 1


if __name__ == "__main__":
    sys.exit(main())
