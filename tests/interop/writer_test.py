#!/usr/bin/env python3
"""writer_test.py TARGET: a Hugging Face checkpoint that nibble writes, loaded by Transformers with the package of its scheme.

Both sides run it in float32. The mean KL divergence of their predictions may be 1e-4 where only weights are quantized (GPTQ's and
AWQ's packages multiply codes and scales in fp16, the others in float32), 1e-3 where activations are rounded too.

--model PATH takes a checkpoint with 4 windows of 256 tokens instead of a small random one, --quantized PATH one that is finished. --fault shows that a wrong file is
found: one scale of a matrix in eight is then a tenth larger.

On a deep model rounded inputs agree by chance only: one input that falls on the other side of a boundary moves thousands behind it. Two options
tell that from an error: --noise judges the judge by itself, with embeddings moved by a millionth, and --decoded takes the inputs as they are on
both sides, so that the weights alone are judged.
"""
import argparse
import json
import os
import pathlib
import random
import shutil
import sys

os.environ |= {"TORCHDYNAMO_DISABLE": "1", "GPTQMODEL_CPU_WORKERS": "2", "MAX_JOBS": "1"}
import numpy as np
import safetensors.torch
import torch
import transformers

import common
import logits_test

sys.path.insert(0, str(common.ROOT / "tests/cli"))
import checkpoint

WINDOWS, TOKENS = 4, 256
ROUNDED_INPUTS = ("bnb:int8", "ct:w8a8", "ct:fp8", "ct:fp8-static")
CALIBRATED = ("-static", "-actorder")


def settings(folder, decoded):
    """What Transformers must be told beyond config.json: kernels that need no compiler, and no packed zero points in memory."""
    config = json.loads((folder / "config.json").read_text())["quantization_config"]
    method = config["quant_method"]
    if method == "gptq":
        return transformers.GPTQConfig(bits=4, backend="torch")
    if method == "awq":
        return transformers.AwqConfig(bits=4, backend="torch_awq")
    if method == "compressed-tensors":
        weights = config["config_groups"]["group_0"]["weights"]
        if decoded or not weights["symmetric"] or (weights["type"], weights["num_bits"]) == ("float", 4):
            return transformers.CompressedTensorsConfig(run_compressed=False, dequantize=True)
    return None


def in_float32(judge):
    """Packages leave unquantized tensors in the checkpoint's bfloat16 and compute in that, whatever `dtype` says: the same values."""
    for parameter in judge.parameters():
        if parameter.dtype == torch.bfloat16:
            parameter.data = parameter.data.float()
    for module in judge.modules():
        state = getattr(getattr(module, "weight", None), "quant_state", None)  # of bitsandbytes' layers of 4 bits
        if state is not None:
            module.compute_dtype = state.dtype = torch.float32
            module.support_avx512bf16_for_cpu = False
    return judge.eval()


def wide_scales(folder):
    """compressed-tensors expands zero points while loading, in the type of the scales: the same numbers as float32."""
    path = folder / "model.safetensors"
    tensors = safetensors.torch.load_file(path)
    wide = {n: t.float() if n.endswith("weight_scale") and t.is_floating_point() else t for n, t in tensors.items()}
    safetensors.torch.save_file(wide, path, metadata={"format": "pt"})


def nudge(judge):
    """Embeddings moved by a millionth, in place."""
    table = judge.get_input_embeddings().weight
    table.data = table.data * (1 + 1e-6 * torch.randn(table.shape, generator=torch.Generator().manual_seed(1)))


def load_judge(folder, decoded):
    """The checkpoint in Transformers, in float32; `decoded`: expanded to a dense model."""
    more = settings(folder, decoded)
    judge = transformers.AutoModelForCausalLM.from_pretrained(
        folder, device_map="cpu", dtype=torch.float32, **({"quantization_config": more} if more else {}))
    if decoded and getattr(judge, "is_loaded_in_8bit", False):
        judge = judge.dequantize()
    return in_float32(judge)


def predictions(judge, windows):
    """Log probabilities after each token of all windows."""
    with torch.no_grad():
        return torch.log_softmax(torch.cat([judge(torch.tensor(ids)[None]).logits[0].float() for ids in windows]), -1)


def kl_divergence(a, b):
    """Mean KL(a, b) in nats a token of log probabilities [tokens, vocabulary]."""
    return float((a.exp() * (a - b)).sum(-1).mean())


def spoil(folder):
    """One scale in eight a tenth larger, in the first matrix that has any."""
    path = folder / "model.safetensors"
    tensors = safetensors.torch.load_file(path)
    name = next(n for n in tensors if n.endswith(("scales", "weight_scale", "absmax", "SCB")))
    tensors[name].view(-1)[::8] *= 1.1
    safetensors.torch.save_file(tensors, path, metadata={"format": "pt"})


def source(arguments, folder):
    if arguments.model:
        return pathlib.Path(arguments.model)
    if arguments.target.endswith(CALIBRATED):  # on a text that the model writes, for which it needs a tokenizer
        (folder / "model").mkdir()
        checkpoint.write(folder / "model", random.Random(3))
        return folder / "model"
    logits_test.COMMON.update(hidden_size=128, intermediate_size=256, head_dim=32)
    logits_test.random_model("llama").save_pretrained(folder / "model")
    return folder / "model"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("target")
    parser.add_argument("--model")
    parser.add_argument("--quantized")
    parser.add_argument("--recipe", help="gptq where the target needs calibration, else nearest")
    parser.add_argument("--fault", action="store_true")
    parser.add_argument("--decoded", action="store_true")
    parser.add_argument("--noise", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    checks = common.Checks()
    recipe = arguments.recipe or ("gptq" if arguments.target.endswith(CALIBRATED) else "nearest")
    bound = 1e-3 if arguments.target in ROUNDED_INPUTS and not arguments.decoded else 1e-4
    with common.scratch() as folder:
        folder = pathlib.Path(folder)
        mine, judged = pathlib.Path(arguments.quantized or folder / "quantized"), folder / "judged"
        if not arguments.quantized:
            common.nibble("quantize", source(arguments, folder), "-o", mine, "--to", arguments.target, "--recipe", recipe)
        shutil.copytree(mine, judged)
        if arguments.target.startswith("ct:"):
            wide_scales(judged)
        if arguments.fault:
            spoil(judged)
        if arguments.decoded:
            common.nibble("convert", mine, "-o", folder / "decoded.gguf", "--to", "f32")
            mine = folder / "decoded.gguf"
        vocab = json.loads((judged / "config.json").read_text())["vocab_size"]
        windows = np.random.default_rng(5).integers(3, vocab, (WINDOWS, TOKENS if arguments.model or arguments.quantized else 48))
        logits = [torch.from_numpy(logits_test.nibble_logits(mine, ids, folder)) for ids in windows]
        judge = load_judge(judged, arguments.decoded)
        theirs = predictions(judge, windows)
        divergence = kl_divergence(theirs, torch.log_softmax(torch.cat(logits), -1))
        checks.judge(f"{arguments.target}: mean KL divergence", divergence, bound, arguments.fault)
        if arguments.noise:
            nudge(judge)
            print(f"{arguments.target}: mean KL divergence of the judge from itself: {kl_divergence(theirs, predictions(judge, windows)):.3g}")
    checks.finish()


if __name__ == "__main__":
    main()
