"""GGUF files against the package gguf, in both directions, and splits against stock llama.cpp."""
import hashlib
import json
import os
import pathlib
import struct
import subprocess

import common

try:
    import gguf
    import numpy as np
except ImportError as missing:
    common.skip(str(missing))

TOOL = os.environ.get("NIBBLE_GGUF_TOOL", str(common.ROOT / "build" / "release" / "tests" / "gguf_tool"))


def f32(x):
    return struct.unpack("f", struct.pack("f", x))[0]


# What tests/support/checkpoints.h puts into a file: every type of value.
KEYS = {"general.architecture": "test", "a.u8": 200, "a.i8": -100, "a.u16": 60000, "a.i16": -30000, "a.u32": 4000000000,
        "a.i32": -2000000000, "a.f32": f32(0.1), "a.bool": True, "a.u64": 1 << 63, "a.i64": -1 << 62, "a.f64": 0.1,
        "v.u8": [1, 255], "v.i8": [1, -1], "v.u16": [1, 2, 3], "v.i16": [-1], "v.u32": [7], "v.i32": [-7, 7],
        "v.f32": [1.5, -0.0], "v.bool": [True, False, True], "v.string": ["", "\u00e9", "a\0b"], "v.u64": [9], "v.i64": [-9],
        "v.f64": [2.5], "v.empty": []}
TENSORS = [("vector", "F32", [5]), ("matrix", "Q4_0", [64, 3]), ("half", "F16", [7, 3, 2]), ("wide", "Q6_K", [256, 2, 2, 2])]

# Types of the package that nibble has no format for: of activations, of tables, and newer ones.
UNKNOWN = ("Q8_1", "Q8_K", "I8", "I16", "I32", "I64", "F64", "NVFP4", "Q1_0")


def tool(*arguments):
    done = subprocess.run([TOOL, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def keys_of(reader):
    return {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}


def content(name, n):
    """The bytes that make_sample() gives a tensor."""
    return bytes((i * 31 + ord(name[-1])) % 256 for i in range(n))


def check_tensors(checks, what, tensors):
    checks.equal(f"{what}: tensors", [(t.name, t.tensor_type.name, [int(d) for d in t.shape]) for t in tensors], TENSORS)
    for t in tensors:
        checks.equal(f"{what}: data of {t.name}", t.data.tobytes() == content(t.name, t.n_bytes), True)


def written_files(checks, home):
    tool("write", home)
    one = gguf.GGUFReader(home / "one.gguf")
    checks.equal("version", int(one.fields["GGUF.version"].parts[0][0]), 3)
    checks.equal("keys", keys_of(one), KEYS)
    for name, field in one.fields.items():
        if name.startswith(("a.", "v.")) and name != "v.empty":
            kind = {"u": "UINT", "i": "INT", "f": "FLOAT"}.get(name[2], name[2:].upper()) + name[3:] * (name[3:].isdigit())
            checks.equal(f"type of {name}", field.types[-1].name, kind)
    check_tensors(checks, "one", one.tensors)
    parts = [gguf.GGUFReader(path) for path in sorted(home.glob("split-*.gguf"))]
    checks.equal("parts", len(parts), 3)
    for i, part in enumerate(parts):
        place = {"split.no": i, "split.count": len(parts), "split.tensors.count": len(TENSORS)}
        checks.equal(f"keys of part {i + 1}", keys_of(part), {**KEYS, **place} if i == 0 else place)
    check_tensors(checks, "split", [t for part in parts for t in part.tensors])


def written_imatrix(checks, home):
    reader = gguf.GGUFReader(home / "imatrix.gguf")
    checks.equal("imatrix keys", keys_of(reader), {"general.type": "imatrix", "imatrix.datasets": ["text"],
                                                   "imatrix.chunk_count": 3, "imatrix.chunk_size": 512})
    checks.equal("imatrix tensors", {t.name: ([int(d) for d in t.shape], t.data.ravel().tolist()) for t in reader.tensors},
                 {"blk.0.attn_q.weight.in_sum2": ([2, 1], [2, 1]), "blk.0.attn_q.weight.counts": ([1, 1], [4]),
                  "blk.0.ffn_up_exps.weight.in_sum2": ([2, 2], [8, 16, 6, 8]),
                  "blk.0.ffn_up_exps.weight.counts": ([1, 2], [8, 2])})


def read_files(checks, home):
    """A file by the package, with an alignment of its own, and one tensor of every type that nibble has."""
    path, random = home / "theirs.gguf", np.random.default_rng(1)
    writer = gguf.GGUFWriter(path, "test")
    writer.add_custom_alignment(64)
    writer.add_array("list", ["a", "\u00e9"])
    writer.add_bool("flag", False)
    wanted = []
    for kind in gguf.GGMLQuantizationType:
        block, size = gguf.GGML_QUANT_SIZES[kind]
        if kind.name not in UNKNOWN:
            data = random.integers(0, 255, (3, size * (256 // block)), np.uint8)
            writer.add_tensor(kind.name, data, raw_shape=data.shape, raw_dtype=kind)
            wanted.append({"name": kind.name, "shape": [3, 256], "type": int(kind), "sha256": hashlib.sha256(data).hexdigest()})
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()
    read = json.loads(tool("dump", path))
    checks.equal("theirs: keys", read["keys"], {"general.architecture": list(b"test"), "general.alignment": 64,
                                                "list": [[97], [0xc3, 0xa9]], "flag": False})
    checks.equal("theirs: tensors", read["tensors"], wanted)


def unknown_type(checks, home):
    path = home / "unknown.gguf"
    writer = gguf.GGUFWriter(path, "test")
    data = np.zeros((1, 40), np.uint8)
    writer.add_tensor("x", data, raw_shape=data.shape, raw_dtype=gguf.GGMLQuantizationType.Q8_1)
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()
    done = subprocess.run([TOOL, "dump", str(path)], capture_output=True, text=True)
    checks.equal("unknown type", (done.returncode, "tensor 'x': has type 9 (Q8_1)" in done.stderr), (2, True))


def main():
    checks = common.Checks()
    with common.scratch() as scratch:
        home = pathlib.Path(scratch)
        written_files(checks, home)
        written_imatrix(checks, home)
        read_files(checks, home)
        unknown_type(checks, home)
    checks.finish()


if __name__ == "__main__":
    main()
