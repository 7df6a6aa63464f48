"""bootstrap.sh on pretended machines: folders of small scripts that answer as the tools of such a machine would."""
import pathlib
import shutil
import subprocess
import tempfile
import unittest

SCRIPT = pathlib.Path(__file__).parents[2] / "scripts/bootstrap.sh"
BASH = shutil.which("bash")

TOOLS = {
    "cmake": "echo cmake version 3.25.1",
    "c++": '[ "$1" = -dumpfullversion ] && echo 12.2.0 || echo c++ 12.2.0',
    "ninja": "echo 1.11.1",
    "make": "echo GNU Make 4.3",
    "python3": "echo Python 3.11.2",
    "cargo": "echo cargo 1.87.0",
    "rustc": "echo rustc 1.87.0",
    "dpkg": "echo amd64",
    "id": "echo 1000",
    # Every package that is asked for is installed, but for those that the file "missing" names.
    "dpkg-query": 'shift 3; for p; do case " $(<missing) " in *" $p "*) echo "rc  $p";; *) echo "ii  $p";; esac; done',
    "apt-get": 'echo "$*" >>installed',
}


class Bootstrap(unittest.TestCase):
    def machine(self, groups=(), missing="", **tools):
        """Exit status, and what is printed, where `tools` (cxx for c++, _ for -) answer otherwise or, if None, are not there."""
        changed = {name.replace("cxx", "c++").replace("_", "-"): body for name, body in tools.items()}
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            for tool, body in {**TOOLS, **changed}.items():
                if body is not None:
                    (folder / tool).write_text(f"#!{BASH}\n{body}\n")
                    (folder / tool).chmod(0o755)
            (folder / "missing").write_text(missing)
            done = subprocess.run([BASH, SCRIPT, *groups], env={"PATH": name, "HOME": name}, cwd=name,
                                  capture_output=True, text=True)
            self.assertEqual(done.stdout, "")
            log = folder / "installed"
            self.installed = log.read_text().splitlines() if log.exists() else []
            return done.returncode, done.stderr.splitlines()

    def refused(self, *words, **machine):
        """One line that names every word, then the line that says how many."""
        status, lines = self.machine(**machine)
        self.assertEqual((status, len(lines)), (1, 2), lines)
        for word in words:
            self.assertIn(word, lines[0])
        self.assertIn("1 thing(s) to mend", lines[1])

    def test_nothing_to_do(self):
        self.assertEqual(self.machine(), (0, []))
        self.assertEqual(self.machine(rustc="echo rustc 1.100.0", cmake="echo cmake version 4.0"), (0, []))
        self.assertEqual(self.machine(cxx="echo Debian clang version 14.0.6"), (0, []))
        self.assertEqual(self.installed, [])

    def test_old_tools(self):
        self.refused("CMake 3.18.4 is too old, 3.25 or newer", "pip install", cmake="echo cmake version 3.18.4")
        self.refused("g++ (c++) 11.4.0 is too old, 12 or newer", "apt-get install g++-12", cxx="echo 11.4.0")
        self.refused("clang++ (c++) 13.0.1 is too old", "apt-get install clang-14", cxx="echo clang version 13.0.1")
        self.refused("Rust (cargo) 1.63.0 is too old, 1.87 or newer", "rustup", cargo="echo cargo 1.63.0")
        self.refused("Python 3.9.2 is too old", python3="echo Python 3.9.2")

    def test_absent_tools(self):
        self.refused("Rust (rustc) is missing, 1.87 or newer", "rustup", rustc=None)
        self.refused("Ninja is missing", "apt-get install ninja-build", ninja=None)

    def test_packages_without_rights(self):
        self.refused("not root", "sudo sh -c 'apt-get update && apt-get install -y --no-install-recommends libfmt-dev'",
                     missing="libfmt-dev")
        self.assertEqual(self.installed, [])

    def test_packages_as_root(self):
        status, lines = self.machine(missing="libfmt-dev libgtest-dev", id="echo 0")
        self.assertEqual((status, len(lines)), (0, 1), lines)
        self.assertEqual(self.installed,
                         ["-qq update", "-qq install -y --no-install-recommends libfmt-dev libgtest-dev"])
        self.refused("not root", "dpkg --add-architecture arm64 && apt-get update", "libfmt-dev:arm64",
                     missing="libfmt-dev:arm64", groups=["cross"])

    def test_packages_that_cannot_be_had(self):
        status, lines = self.machine(missing="libfmt-dev", id="echo 0", apt_get="exit 100")
        self.assertEqual(status, 1)
        self.assertIn("apt-get failed", lines[1])

    def test_other_systems(self):
        status, lines = self.machine(dpkg_query=None)
        self.assertEqual((status, len(lines)), (0, 1), lines)
        self.assertIn("no dpkg here", lines[0])

    def test_unknown_group(self):
        status, lines = self.machine(groups=["everything"])
        self.assertEqual((status, lines), (1, ["bootstrap: unknown group 'everything'; known: lint fuzz cross web"]))


if __name__ == "__main__":
    unittest.main()
