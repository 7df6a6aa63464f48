#!/usr/bin/env python3
"""`nibble inspect --json` agrees with the gguf package on every field: metadata, tensors, and the sums over them."""
import pathlib
import sys

import gguf
import numpy as np

import common


def plain(value):
    """A metadata value of the gguf package as JSON would hold it."""
    if isinstance(value, (list, np.ndarray)):
        return [plain(v) for v in value]
    return value.item() if isinstance(value, np.generic) else value


def compare_metadata(checks, ours, reader):
    theirs = {k: plain(f.contents()) for k, f in reader.fields.items() if not k.startswith("GGUF.")}
    checks.equal("metadata keys", sorted(ours), sorted(theirs))
    for key in set(ours) & set(theirs):
        if isinstance(theirs[key], float):
            checks.equal(key, np.float32(ours[key]), np.float32(theirs[key]))
        else:
            checks.equal(key, ours[key], theirs[key])


def compare_tensors(checks, ours, reader):
    checks.equal("tensor names", [t["name"] for t in ours], [t.name for t in reader.tensors])
    for mine, other in zip(ours, reader.tensors):
        name = mine["name"]
        checks.equal(f"shape of {name}", mine["shape"], [int(n) for n in other.shape])
        checks.equal(f"format of {name}", mine["format"].upper(), other.tensor_type.name)
        checks.equal(f"bytes of {name}", mine["bytes"], int(other.n_bytes))


def main():
    kind, level = sys.argv[1:]
    source = common.model(kind)
    checks = common.Checks()
    with common.scratch() as folder:
        file = pathlib.Path(folder) / "model.gguf"
        report = common.nibble_json("quantize", source, "-o", file, "--to", level, "--recipe", "nearest")
        ours, reader = common.nibble_json("inspect", file, "--all"), gguf.GGUFReader(file)
        parameters, stored = sum(int(t.n_elements) for t in reader.tensors), sum(int(t.n_bytes) for t in reader.tensors)
        checks.equal("architecture", ours["architecture"], reader.fields["general.architecture"].contents())
        checks.equal("bytes", ours["bytes"], file.stat().st_size)
        checks.equal("parameters", ours["parameters"], parameters)
        checks.at_most("difference in bits per weight", abs(ours["bits_per_weight"] - 8 * stored / parameters), 1e-9)
        checks.at_most("difference to what quantize said", abs(ours["bits_per_weight"] - report["bits_per_weight"]), 1e-9)
        compare_metadata(checks, ours["metadata"], reader)
        compare_tensors(checks, ours["tensors"], reader)
        del reader
    checks.finish()


if __name__ == "__main__":
    main()
