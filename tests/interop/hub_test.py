"""nibble pull against a hub of our own: listing, ranges, hashes, tokens, and everything that goes wrong."""
import hashlib
import http.server
import json
import os
import pathlib
import re
import subprocess
import sys
import threading
import urllib.parse

import common

COMMIT = "0123456789abcdef0123456789abcdef01234567"
BIG = bytes(i * 7 % 251 for i in range(3_000_000))


def tensors(name):
    """A .safetensors file with one float32 tensor."""
    header = json.dumps({name: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    return len(header).to_bytes(8, "little") + header + b"12345678"


CONFIG = (pathlib.Path(__file__).parents[1] / "configs" / "mistral-7b.json").read_bytes()
CHECKPOINT = {"config.json": b'{"model_type":"llama"}', "tokenizer.json": b"{}", "model.safetensors": BIG,
              "pytorch_model.bin": b"not wanted", "onnx/model.safetensors": b"not wanted"}
INDEX = json.dumps({"weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors"}}).encode()
REPOSITORIES = {
    "org/plain": CHECKPOINT,
    "org/sharded": {"config.json": b"{}", "model.safetensors.index.json": INDEX, "m-1.safetensors": tensors("a"),
                    "m-2.safetensors": tensors("b"), "other.safetensors": b"not wanted"},
    "org/ggufs": {"x-Q4_K_M.gguf": b"GGUF1", "Q8_0/x-Q8_0-00001-of-00002.gguf": b"GGUF2",
                  "Q8_0/x-Q8_0-00002-of-00002.gguf": b"GGUF3", "README.md": b""},
    "org/mistral": {"config.json": CONFIG, "model.safetensors": BIG},
    "org/secret": CHECKPOINT,
    "org/nothing": {"README.md": b"", "pytorch_model.bin": b"x"},
    "org/evil": {"../../escaped.safetensors": b"x", "/etc/escaped.gguf": b"x", "a/../../escaped.gguf": b"x"},
    "org/evil-index": {"config.json": b"{}", "model.safetensors.index.json":
                       b'{"weight_map": {"a": "../../../escaped.safetensors"}}', "m.safetensors": b"x"},
}


class Hub(http.server.BaseHTTPRequestHandler):
    """Large files (over 100 bytes) are redirected to a store, as the real hub does. `server.faults` says what to spoil."""
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def reply(self, status, body=b"", **headers):
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.server.requests.append((self.path, self.headers.get("Range"), self.headers.get("Authorization")))
        faults = self.server.faults
        if faults.get("errors", 0) > 0:
            faults["errors"] -= 1
            return self.reply(503)
        path = urllib.parse.unquote(urllib.parse.urlparse(self.path).path)
        if match := re.fullmatch(r"/api/models/(\w+/[\w-]+)/revision/(.+)", path):
            return self.listing(*match.groups())
        if match := re.fullmatch(rf"/(\w+/[\w-]+)/resolve/{COMMIT}/(.+)", path):
            return self.file(*match.groups())
        if match := re.fullmatch(r"/store/(\w+/[\w-]+)/(.+)", path):
            return self.body(REPOSITORIES[match[1]][match[2]])
        return self.reply(404)

    def allowed(self, repository):
        if repository != "org/secret" or self.headers.get("Authorization") == "Bearer sesame":
            return True
        self.reply(401)
        return False

    def listing(self, repository, revision):
        if repository not in REPOSITORIES or revision not in ("main", "refs/pr/1"):
            return self.reply(404)
        if not self.allowed(repository):
            return None
        siblings = []
        for name, data in REPOSITORIES[repository].items():
            entry = {"rfilename": name, "size": len(data)}
            if len(data) > 100:
                entry["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
            else:
                entry["blobId"] = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
            siblings.append(entry)
        return self.reply(200, json.dumps({"id": repository, "sha": COMMIT, "siblings": siblings}).encode())

    def file(self, repository, name):
        if not self.allowed(repository):
            return None
        data = REPOSITORIES[repository].get(name)
        if data is None:
            return self.reply(404)
        if self.server.faults.get("loop"):
            return self.reply(302, Location=self.path)
        if len(data) > 100:
            location = f"http://localhost:{self.server.server_port}/store/{repository}/{name}"
            return self.reply(302, Location=location, X_Linked_Etag=f'"{hashlib.sha256(data).hexdigest()}"')
        return self.body(data)

    def body(self, data):
        faults = self.server.faults
        if faults.get("wrong"):
            data = data[:-1] + bytes([data[-1] ^ 1])
        if faults.get("longer"):
            data += b"more"
        if faults.get("shorter"):
            data = data[:-1]
        start, status, headers = 0, 200, {}
        if (ranged := self.headers.get("Range")) and not faults.get("no_ranges"):
            start = int(re.fullmatch(r"bytes=(\d+)-", ranged)[1])
            status, headers = 206, {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
        rest = data[start:]
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        cuts = faults.get("cuts", 0)
        if cuts:  # the connection breaks after a while
            faults["cuts"] = cuts - 1
            self.wfile.write(rest[:len(rest) // 2])
            self.close_connection = True
            self.connection.close()
        else:
            self.wfile.write(rest)


class Bench:
    def __init__(self, checks):
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
        self.server.handle_error = lambda *args: None  # broken connections are on purpose
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.checks = checks

    def pull(self, name, cache, faults=None, token="", revision="main"):
        """Exit code, standard output, standard error."""
        return self.run(["pull", name, "--cache", str(cache), "--revision", revision], faults, HF_TOKEN=token)

    def run(self, arguments, faults=None, **variables):
        self.server.faults = dict(faults or {})
        self.server.requests = []
        environment = {**os.environ, "HF_ENDPOINT": f"http://127.0.0.1:{self.server.server_port}", "HF_TOKEN": "",
                       "no_proxy": "127.0.0.1,localhost", **variables}
        done = subprocess.run([common.PROGRAM, *arguments], env=environment, capture_output=True, text=True, timeout=120)
        return done.returncode, done.stdout.strip(), done.stderr

    def refused(self, what, reason, *args, **kwargs):
        code, out, err = self.pull(*args, **kwargs)
        last = err.strip().splitlines()[-1:] or [""]
        self.checks.equal(f"{what}: exit code", code, 2)
        self.checks.equal(f"{what}: output", out, "")
        self.checks.equal(f"{what}: {last[0]!r} says {reason!r}", reason in last[0], True)


def files(directory):
    return sorted(str(p.relative_to(directory)) for p in pathlib.Path(directory).rglob("*") if p.is_file())


def good_cases(bench, checks, home):
    code, out, err = bench.pull("org/plain", home / "a")
    checks.equal("plain", (code, err.count("error")), (0, 0))
    checks.equal("plain files", files(out), ["config.json", "model.safetensors", "tokenizer.json"])
    checks.equal("plain content", pathlib.Path(out, "model.safetensors").read_bytes() == BIG, True)
    code, again, _ = bench.pull("org/plain", home / "a")
    checks.equal("a second time", (code, again, len(bench.server.requests)), (0, out, 1))
    code, offline, err = bench.pull("org/plain", home / "a", {"errors": 99})
    checks.equal("without the hub", (code, offline, "using the copy" in err), (0, out, True))
    code, out, _ = bench.pull("org/sharded", home / "a")
    checks.equal("sharded", (code, files(out)), (0, ["config.json", "m-1.safetensors", "m-2.safetensors",
                                                     "model.safetensors.index.json"]))
    code, out, _ = bench.pull("org/ggufs:q4_k_m", home / "a")
    checks.equal("by a part of the name", (code, pathlib.Path(out).name), (0, "x-Q4_K_M.gguf"))
    code, out, _ = bench.pull("org/ggufs:Q8_0", home / "a")
    checks.equal("split", (code, files(pathlib.Path(out).parent)),
                 (0, ["x-Q8_0-00001-of-00002.gguf", "x-Q8_0-00002-of-00002.gguf"]))
    checks.equal("a revision with slashes", bench.pull("org/plain", home / "a", revision="refs/pr/1")[0], 0)
    code, out, _ = bench.pull("org/secret", home / "a", token="sesame")
    checks.equal("with a token", code, 0)
    to_store = [sent for path, _, sent in bench.server.requests if path.startswith("/store/")]
    checks.equal("the token stays with its host", to_store, [None])


def advise_cases(bench, checks, home):
    """Advice about a name takes its config, never its weights, and what it fetched is no checkpoint for others."""
    advise = ["advise", "org/mistral", "--no-speed", "--levels", "Q4_K_M", "--json"]
    for faults in ({}, {"errors": 99}):
        code, out, err = bench.run(advise, faults, NIBBLE_CACHE=str(home / "k"))
        checks.equal(f"advise {faults}: {err}", code, 0)
        checks.equal("its source", json.loads(out)["source"], "org/mistral")
        checks.equal("its size", 4.3e9 < json.loads(out)["levels"][0]["file_bytes"] < 4.4e9, True)
    checks.equal("no weights", [f for f in files(home / "k") if f.endswith((".safetensors", ".part"))], [])
    bench.refused("no checkpoint without the hub", "status 503", "org/mistral", home / "k", {"errors": 99})
    code, out, _ = bench.pull("org/mistral", home / "k")
    checks.equal("then the weights", (code, files(out)), (0, ["config.json", "model.safetensors"]))


def interrupted_cases(bench, checks, home):
    code, out, _ = bench.pull("org/plain", home / "b", {"errors": 2})
    checks.equal("errors for a moment", code, 0)
    code, out, _ = bench.pull("org/plain", home / "c", {"cuts": 3})
    content = pathlib.Path(out, "model.safetensors").read_bytes() if code == 0 else b""
    checks.equal("broken connections", (code, content == BIG), (0, True))
    checks.equal("went on where it stopped", sum(1 for _, ranged, _ in bench.server.requests if ranged) > 0, True)
    # An earlier run left the beginning: with ranges only the rest is fetched, without them everything.
    for faults in ({}, {"no_ranges": True}):
        target = home / ("d" + str(len(faults))) / "hub/org/plain" / COMMIT
        target.mkdir(parents=True)
        (target / "model.safetensors.part").write_bytes(BIG[:1_000_000])
        code, out, _ = bench.pull("org/plain", target.parents[3], faults)
        checks.equal(f"resumed {faults}", (code, (target / "model.safetensors").read_bytes() == BIG), (0, True))
        checks.equal("asked for the rest", "bytes=1000000-" in [ranged for _, ranged, _ in bench.server.requests], True)
        checks.equal("no part is left", list(target.glob("*.part")), [])


def bad_cases(bench, checks, home):
    bench.refused("wrong content", "the hub says", "org/plain", home / "e", {"wrong": True})
    checks.equal("wrong content is removed", files(home / "e"), [])
    bench.refused("too long", "more than", "org/plain", home / "f", {"longer": True})
    bench.refused("too short", "bytes came", "org/plain", home / "g", {"shorter": True})
    bench.refused("redirected in a circle", "redirect", "org/plain", home / "h", {"loop": True})
    bench.refused("always an error", "status 503", "org/plain", home / "i", {"errors": 99})
    bench.refused("without a token", "HF_TOKEN", "org/secret", home / "j")
    bench.refused("unknown model", "status 404", "org/none", home / "j")
    bench.refused("unknown revision", "status 404", "org/plain", home / "j", revision="none")
    bench.refused("nothing usable", "neither .safetensors nor .gguf", "org/nothing", home / "j")
    bench.refused("several choices", "x-Q4_K_M.gguf", "org/ggufs", home / "j")
    bench.refused("unknown choice", "named like 'Q9'", "org/ggufs:Q9", home / "j")
    bench.refused("paths that lead outside", "neither .safetensors nor .gguf", "org/evil", home / "j")
    bench.refused("an index that leads outside", "expected the name", "org/evil-index", home / "j")
    bench.refused("not a name", "expected org/name", "../etc", home / "j")
    checks.equal("nothing escaped", [f for f in files(home) if "escaped" in f], [])


def main():
    checks = common.Checks()
    if not pathlib.Path(common.PROGRAM).exists():
        common.skip(f"no program {common.PROGRAM}")
    with common.scratch() as scratch:
        bench = Bench(checks)
        home = pathlib.Path(scratch)
        good_cases(bench, checks, home)
        advise_cases(bench, checks, home)
        interrupted_cases(bench, checks, home)
        bad_cases(bench, checks, home)
    checks.finish()


if __name__ == "__main__":
    sys.exit(main())
