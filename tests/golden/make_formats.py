#!/usr/bin/env python3
"""Writes formats/<id>.bin: blocks of random bytes, then the float32 values that the PyPI package `gguf` decodes from
them. Made with gguf 0.19.0 and numpy 2.4.6; needs nothing else. Run it in this folder."""
import pathlib

import numpy
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, dequantize

FORMATS = """F32 F16 BF16 Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_NL IQ4_XS IQ1_S IQ1_M IQ2_XXS IQ2_XS IQ2_S
IQ3_XXS IQ3_S TQ1_0 TQ2_0 MXFP4""".split()
WEIGHTS = 2048  # a format

folder = pathlib.Path(__file__).parent / "formats"
folder.mkdir(exist_ok=True)
for index, name in enumerate(FORMATS):
    kind = GGMLQuantizationType[name]
    block, size = GGML_QUANT_SIZES[kind]
    data = numpy.random.default_rng(index).integers(0, 256, WEIGHTS // block * size, dtype=numpy.uint8)
    with numpy.errstate(all="ignore"):
        values = dequantize(data, kind)
    (folder / f"{name.lower()}.bin").write_bytes(data.tobytes() + values.astype("<f4").tobytes())
