#!/usr/bin/env python3
"""What llama-quantize would make of models of several shapes, as text: tests/golden/plans/SHAPE.txt.

    make_plans.py LLAMA_QUANTIZE        (llama.cpp 0c1e57098; Python package gguf 0.19)

Only shapes and names matter: the models are written sparsely and quantized with --dry-run. A line is
`level importance: tensor type*count ...`, with the layer number in names replaced by '*' and the types of the layers
in order, run-length coded. The first line of a file states the shape.
"""
import itertools
import pathlib
import re
import subprocess
import sys
import tempfile

import numpy as np
from gguf import GGUFWriter

HERE = pathlib.Path(__file__).parent
LEVELS = """Q2_K Q3_K_S Q3_K_M Q3_K_L Q4_0 Q4_1 Q5_0 Q5_1 Q4_K_S Q4_K_M Q5_K_S Q5_K_M Q6_K Q8_0 IQ4_NL IQ4_XS F16 BF16
F32 IQ1_S IQ1_M IQ2_XXS IQ2_XS IQ2_S IQ2_M IQ3_XXS IQ3_XS IQ3_S IQ3_M Q2_K_S TQ1_0 TQ2_0 MXFP4_MOE""".split()
# layers, heads, kv heads, head size, inner width, experts, embedding tied to the head
SHAPES = {
    "plain": dict(arch="llama", layers=30, heads=9, kv=3, size=64, inner=1536, experts=0, tied=True),
    "wide": dict(arch="llama", layers=30, heads=12, kv=4, size=64, inner=1536, experts=0, tied=False),
    "grouped": dict(arch="llama", layers=32, heads=8, kv=2, size=64, inner=1024, experts=0, tied=False),
    "eighty": dict(arch="llama", layers=80, heads=8, kv=1, size=64, inner=1024, experts=0, tied=False),
    "experts": dict(arch="llama", layers=24, heads=8, kv=2, size=64, inner=512, experts=8, tied=False),
}


def tensors(s):
    hidden, kv, inner = s["heads"] * s["size"], s["kv"] * s["size"], s["inner"]
    yield "token_embd.weight", (256, hidden)
    yield "output_norm.weight", (hidden,)
    if not s["tied"]:
        yield "output.weight", (256, hidden)
    for i in range(s["layers"]):
        block = f"blk.{i}."
        for name, rows, columns in (("attn_q", hidden, hidden), ("attn_k", kv, hidden), ("attn_v", kv, hidden),
                                    ("attn_output", hidden, hidden)):
            yield f"{block}{name}.weight", (rows, columns)
        yield block + "attn_norm.weight", (hidden,)
        yield block + "ffn_norm.weight", (hidden,)
        e = s["experts"]
        if e:
            yield block + "ffn_gate_inp.weight", (e, hidden)
        suffix, lead = ("_exps.weight", (e,)) if e else (".weight", ())
        yield f"{block}ffn_gate{suffix}", (*lead, inner, hidden)
        yield f"{block}ffn_up{suffix}", (*lead, inner, hidden)
        yield f"{block}ffn_down{suffix}", (*lead, hidden, inner)


def write_model(path, s):
    w = GGUFWriter(path, s["arch"])
    w.add_block_count(s["layers"]), w.add_context_length(64), w.add_embedding_length(s["heads"] * s["size"])
    w.add_feed_forward_length(s["inner"]), w.add_head_count(s["heads"]), w.add_head_count_kv(s["kv"])
    w.add_layer_norm_rms_eps(1e-5), w.add_vocab_size(256), w.add_tokenizer_model("none")
    if s["experts"]:
        w.add_expert_count(s["experts"]), w.add_expert_used_count(2)
    for name, shape in tensors(s):
        w.add_tensor(name, np.zeros(shape, np.float32 if len(shape) == 1 or "inp" in name else np.float16))
    w.write_header_to_file(), w.write_kv_data_to_file(), w.write_tensors_to_file(), w.close()


def write_imatrix(path, s):
    w = GGUFWriter(path, "imatrix")
    w.add_type("imatrix"), w.add_array("imatrix.datasets", ["none"])
    w.add_uint32("imatrix.chunk_count", 1), w.add_uint32("imatrix.chunk_size", 512)
    for name, shape in tensors(s):
        if len(shape) >= 2:
            w.add_tensor(name + ".in_sum2", np.ones((shape[0] if len(shape) == 3 else 1, shape[-1]), np.float32))
            w.add_tensor(name + ".counts", np.ones((shape[0] if len(shape) == 3 else 1, 1), np.float32))
    w.write_header_to_file(), w.write_kv_data_to_file(), w.write_tensors_to_file(), w.close()


def planned(program, model, level, imatrix):
    """{tensor: type} in the order of layers."""
    command = [program, "--dry-run"] + (["--imatrix", imatrix] if imatrix else []) + [model, model + ".out", level, "1"]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode:
        sys.exit(run.stdout + run.stderr)
    out = {}
    for line in (run.stdout + run.stderr).splitlines():
        found = re.match(r"\[ *\d+/ *\d+\] (\S+) .*type = *(\w+), size = .*?(?:\((\w+)\))?$", line)
        if found:
            out[found[1]] = (found[3] or found[2]).lower()
    return out


def main():
    program = sys.argv[1]
    with tempfile.TemporaryDirectory() as folder:
        for shape, s in SHAPES.items():
            model, imatrix = f"{folder}/{shape}.gguf", f"{folder}/{shape}.imatrix.gguf"
            write_model(model, s), write_imatrix(imatrix, s)
            lines = ["arch {arch} layers {layers} heads {heads} kv {kv} size {size} inner {inner} experts {experts} tied {tied:d}".format(**s)]
            for level, importance in itertools.product(LEVELS, (0, 1)):
                types = planned(program, model, level, imatrix if importance else None)
                assert set(types) == {name for name, _ in tensors(s)}
                roles = {}
                for name, _ in tensors(s):
                    roles.setdefault(re.sub(r"^blk\.\d+", "blk.*", name), []).append(types[name])
                text = (" ".join([role] + [f"{t}*{len(list(g))}" for t, g in itertools.groupby(ts)]) for role, ts in roles.items())
                lines.append(f"{level} {importance}: " + ", ".join(text))
            (HERE / "plans" / f"{shape}.txt").write_text("\n".join(lines) + "\n")
            print(shape, len(lines) - 1)


if __name__ == "__main__":
    main()
