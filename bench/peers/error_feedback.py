#!/usr/bin/env python3
"""Error feedback into groups of 4-bit integers, ours and GPTQModel's, on the same inputs of the same layers.

    error_feedback.py ROUND_TAP CHECKPOINT TEXT [--group 128] [--windows 16] [--blocks 0,14,29] [--threads 2]

For every tap of the named blocks of a Llama checkpoint (what q, k and v read is one tap), both get the same full-precision
inputs. Printed a matrix: the proxy loss tr((W - Q) H (W - Q)^T) of both with H = X^T X / tokens in float64, its ratio;
and at the end CPU seconds from the inputs to the codes, in turn, and theirs / ours. GPTQModel runs with its defaults
(damping 0.05, act_group_aware) and with desc_act off and on; the better of its losses counts, and the shorter time.

Needs torch, transformers and gptqmodel; ROUND_TAP is built from bench/round_tap.cc (NIBBLE_BENCH=ON)."""
import argparse
import pathlib
import statistics
import subprocess
import tempfile
import time

import numpy
import torch
from gptqmodel.quantization.config import QuantizeConfig
from gptqmodel.quantization.gptq import GPTQ
from transformers import AutoModelForCausalLM, AutoTokenizer

TAPS = [("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), ("self_attn.o_proj",),
        ("mlp.gate_proj", "mlp.up_proj"), ("mlp.down_proj",)]


def inputs_of(model, windows, names):
    """What each named layer reads: [tokens, columns], in float32."""
    kept = {name: [] for name in names}
    hooks = [model.get_submodule(name).register_forward_pre_hook(
        lambda _, args, name=name: kept[name].append(args[0].detach().reshape(-1, args[0].shape[-1]))) for name in names]
    with torch.no_grad():
        for window in windows:
            model(window[None])
    for hook in hooks:
        hook.remove()
    return {name: torch.cat(rows).float() for name, rows in kept.items()}


def theirs(layers, inputs, group, **settings):
    """The layers of a tap quantized by GPTQModel; second moments are summed once a tap. Returns weights, CPU seconds."""
    config = QuantizeConfig(bits=4, group_size=group, sym=True, device="cpu", **settings)
    start = time.process_time()
    results, leader = [], None
    for layer in layers:
        task = GPTQ(layer, qcfg=config)
        task.quantizer.configure(perchannel=True)
        if leader is None:
            leader = task
            for window in inputs.split(512):
                task.add_batch(window[None], None)
            moment = task.finalize_hessian(torch.device("cpu")).clone()
        else:
            task.H, task.nsamples, task._hessian_dirty = moment.clone(), leader.nsamples, False
            task.finalize_hessian = lambda target_device=None: None
        results.append(task.quantize()[0].detach().float())
    return results, time.process_time() - start


def ours(program, layers, inputs, group, threads, folder):
    numbers = lambda *n: numpy.array(n, numpy.int64).tobytes()
    with open(folder / "in", "wb") as out:
        out.write(numbers(inputs.shape[1], inputs.shape[0], len(layers)) + inputs.numpy().tobytes())
        for layer in layers:
            out.write(numbers(layer.weight.shape[0]) + layer.weight.detach().float().numpy().tobytes())
    printed = subprocess.run([program, f"int4_g{group}", str(threads), folder / "in", folder / "out"], check=True,
                             capture_output=True, text=True).stdout
    values = torch.from_numpy(numpy.fromfile(folder / "out", numpy.float32))
    return [v.reshape(layer.weight.shape) for v, layer in
            zip(values.split([layer.weight.numel() for layer in layers]), layers)], float(printed.split()[0])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("program", "checkpoint", "text"):
        parser.add_argument(name)
    parser.add_argument("--group", type=int, default=128), parser.add_argument("--windows", type=int, default=16)
    parser.add_argument("--blocks", default="0,14,29"), parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = AutoModelForCausalLM.from_pretrained(arguments.checkpoint, dtype=torch.float32)
    ids = AutoTokenizer.from_pretrained(arguments.checkpoint)(pathlib.Path(arguments.text).read_text())["input_ids"]
    windows = torch.tensor(ids[:arguments.windows * 512]).reshape(-1, 512)
    taps = [[f"model.layers.{block}.{name}" for name in tap] for block in arguments.blocks.split(",") for tap in TAPS]
    kept = inputs_of(model, windows, [names[0] for names in taps])
    ratios, times = [], []
    for names in taps:
        layers = [model.get_submodule(name) for name in names]
        inputs = kept.pop(names[0])
        if inputs.shape[1] % arguments.group:
            print(f"{names[0]}: {inputs.shape[1]} columns are no whole groups of {arguments.group}")
            continue
        with tempfile.TemporaryDirectory() as folder:
            mine, seconds = ours(arguments.program, layers, inputs, arguments.group, arguments.threads,
                                 pathlib.Path(folder))
        peers = [theirs(layers, inputs, arguments.group, desc_act=act, act_group_aware=not act) for act in (False, True)]
        times.append((seconds, min(taken for _, taken in peers)))
        x = inputs.double()
        moment = x.T @ x / len(x)
        for i, (name, layer) in enumerate(zip(names, layers)):
            loss = lambda q: float(((layer.weight.double() - q.double()) @ moment * (layer.weight.double() - q.double())).sum())
            us, them = loss(mine[i]), [loss(result[i]) for result, _ in peers]
            ratios.append(us / min(them))
            print(f"{name:32} ours {us:.5g}  theirs {them[0]:.5g}, desc_act {them[1]:.5g}  ratio {ratios[-1]:.3f}", flush=True)
    print(f"loss: median ratio {statistics.median(ratios):.3f}, largest {max(ratios):.3f}")
    us, them = (sum(column) for column in zip(*times))
    print(f"CPU seconds: ours {us:.2f}, theirs {them:.2f}: theirs / ours {them / us:.1f}")


if __name__ == "__main__":
    main()
