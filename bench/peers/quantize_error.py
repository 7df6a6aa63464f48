#!/usr/bin/env python3
"""How far quantized GGUF files are from their source, by type: squared errors summed over the model, plain and weighted
with an importance matrix. Needs the PyPI packages gguf and numpy.

    quantize_error.py SOURCE.gguf [--imatrix I.gguf] [--rows N] OURS.gguf THEIRS.gguf

Prints one line a type (of the tensors that have that type in both files) and one for the whole, with ours / theirs."""
import argparse
import collections

import numpy
from gguf import GGUFReader, dequantize


def tensors(path):
    return {t.name: t for t in GGUFReader(path).tensors}


def importance(path):
    """Mean square of the inputs of each tensor's columns, [columns] (experts averaged)."""
    found = tensors(path) if path else {}
    result = {}
    for name in found:
        if name.endswith(".in_sum2"):
            base = name.removesuffix(".in_sum2")
            count = numpy.maximum(numpy.asarray(found[base + ".counts"].data, numpy.float64).reshape(-1, 1), 1)
            sums = numpy.asarray(found[name].data, numpy.float64).reshape(len(count), -1)
            result[base] = (sums / count).mean(0)
    return result


def floats(tensor, rows):
    """The first rows of a matrix."""
    return dequantize(tensor.data[:rows], tensor.tensor_type).astype(numpy.float32).reshape(-1, int(tensor.shape[0]))


def errors(source, tensor, weights, rows):
    difference = floats(tensor, rows).astype(numpy.float64) - source
    by_column = (difference * difference).sum(0)
    return numpy.array([by_column.sum(), by_column.sum() if weights is None else (by_column * weights).sum()])


def sums(source, ours, theirs, imatrix=None, rows=None):
    """By type and "whole": [ours, theirs][plain, weighted]."""
    weights = importance(imatrix)
    source, ours, theirs = tensors(source), tensors(ours), tensors(theirs)
    found = collections.defaultdict(lambda: numpy.zeros((2, 2)))
    for name, tensor in ours.items():
        if theirs[name].tensor_type in (0, 1, 30):  # F32, F16, BF16
            continue
        exact = floats(source[name], rows)
        pair = numpy.array([errors(exact, t, weights.get(name), rows) for t in (tensor, theirs[name])])
        same = tensor.tensor_type == theirs[name].tensor_type
        found[tensor.tensor_type.name if same else "differing"] += pair
        found["whole"] += pair
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source"), parser.add_argument("ours"), parser.add_argument("theirs")
    parser.add_argument("--imatrix")
    parser.add_argument("--rows", type=int, help="only the first rows of each matrix")
    arguments = parser.parse_args()
    found = sums(arguments.source, arguments.ours, arguments.theirs, arguments.imatrix, arguments.rows)
    print(f"{'type':10} {'squared':>12} {'theirs':>12} {'ratio':>7} {'weighted':>12} {'theirs':>12} {'ratio':>7}")
    for kind in sorted(found, key=lambda kind: (kind == "whole", kind)):
        (a, wa), (b, wb) = found[kind]
        print(f"{kind:10} {a:12.5e} {b:12.5e} {a / b:7.4f} {wa:12.5e} {wb:12.5e} {wa / wb:7.4f}")


if __name__ == "__main__":
    main()
