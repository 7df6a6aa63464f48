#!/usr/bin/env python3
"""scheme_test.py CASE: a checkpoint that bitsandbytes quantized, read by nibble.

4 bits: bitsandbytes itself gives back the values of its matrices; Transformers runs a model of just these in float32, and
nibble's logits must agree within the bound of logits_test.py: a wrong level, scale or order of one matrix is far beyond it.

8 bits round the inputs of matrices too, so bitsandbytes runs its model itself. A value between two codes can fall to either
with the order of float32 sums; every later token sees that, and its own values fall otherwise. So the bound holds for the
eighth of the tokens that agree best. A rounding of another kind is wrong in every token, by a hundred times the bound.

--fault shows that: one scale of one matrix is then off by one part in a thousand, or the threshold of outliers is not read.
"""
import json
import pathlib
import sys

import bitsandbytes
import numpy as np
import torch
import transformers
from bitsandbytes._ops import register_kernel

import common
import logits_test

TOKENS = 48
CASES = {
    "nf4": dict(load_in_4bit=True, bnb_4bit_quant_type="nf4"),
    "nf4-double": dict(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True),
    "fp4": dict(load_in_4bit=True, bnb_4bit_quant_type="fp4"),
    "int8": dict(load_in_8bit=True, llm_int8_threshold=0.0),
    "int8-outliers": dict(load_in_8bit=True, llm_int8_threshold=3.0),
}


@register_kernel("bitsandbytes::int8_mm_dequant", "cpu")
def scale_products(products, row_scales, column_scales, dtype=None, bias=None):
    """As on GPUs: the package's code for processors has 6.200124e-05 where 1 / 127^2 = 6.200012e-05 is meant."""
    scaled = products * (row_scales[:, None] * column_scales[None]) * (1 / 127**2)
    return (scaled if bias is None else scaled + bias).to(dtype)


def values(module):
    """What a quantized layer's codes stand for, in float32; None of another layer."""
    if isinstance(module, bitsandbytes.nn.Linear4bit):
        state = module.weight.quant_state
        state.dtype = torch.float32
        return bitsandbytes.functional.dequantize_4bit(module.weight.data, state)
    if isinstance(module, bitsandbytes.nn.Linear8bitLt):
        weight = module.weight
        return weight.data.float() * (weight.SCB.float() / 127)[:, None]
    return None


def plain_model(quantized, original):
    """The original with the quantized one's values."""
    with torch.no_grad():
        for name, module in quantized.named_modules():
            decoded = values(module)
            if decoded is not None:
                original.get_submodule(name).weight.copy_(decoded)
    return original


def main():
    torch.set_num_threads(1)
    case, fault = sys.argv[1], "--fault" in sys.argv
    checks = common.Checks()
    logits_test.COMMON["intermediate_size"] = 192  # blocks are of 64
    original = logits_test.random_model("llama")
    ids = np.random.default_rng(5).integers(3, logits_test.COMMON["vocab_size"], TOKENS)
    with common.scratch() as folder:
        folder = pathlib.Path(folder)
        original.save_pretrained(folder / "model")
        quantized = transformers.AutoModelForCausalLM.from_pretrained(
            folder / "model", device_map="cpu", dtype=torch.float32,
            quantization_config=transformers.BitsAndBytesConfig(**CASES[case]))
        quantized.save_pretrained(folder / "quantized")
        if fault and "load_in_8bit" in CASES[case]:
            config = json.loads((folder / "quantized" / "config.json").read_text())
            del config["quantization_config"]["llm_int8_threshold"]
            (folder / "quantized" / "config.json").write_text(json.dumps(config))
        ours = logits_test.nibble_logits(folder / "quantized", ids, folder)
        layers = sum(values(m) is not None for m in quantized.modules())
        checks.equal("quantized layers", layers, 14)
        if "load_in_8bit" in CASES[case]:
            judge, share = quantized, 1 / 8
        else:
            judge, share = plain_model(quantized, original), 1
            if fault:
                judge.model.layers[0].mlp.up_proj.weight.data[3] *= 1.001
        with torch.no_grad():
            theirs = judge(torch.tensor(ids)[None]).logits[0].numpy()
        errors = np.abs(ours - theirs).max(axis=1) / np.abs(theirs).max()
        error = float(np.quantile(errors, share))
        checks.judge(f"{case}: greatest error of a logit, relative to the greatest logit", error, logits_test.BOUND, fault)
    checks.finish()


if __name__ == "__main__":
    main()
