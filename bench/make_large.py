#!/usr/bin/env python3
"""Writes a Hugging Face checkpoint in the shape of Llama 3 8B (BF16, 16 GB) with random weights, to measure memory.

    make_large.py OUT TOKENIZER_DIR [--layers 32]

The tokenizer's files are copied from TOKENIZER_DIR; rows of the embedding beyond its vocabulary stay unused. Weights
repeat a block of 32 million random values, normal with standard deviation 0.02: made in a minute, no packages needed
but numpy.
"""
import argparse
import json
import math
import pathlib
import shutil

import numpy as np

HIDDEN, INNER, VOCAB, HEADS, KV_HEADS, HEAD = 4096, 14336, 128256, 32, 8, 128
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN, "intermediate_size": INNER,
    "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "head_dim": HEAD, "vocab_size": VOCAB,
    "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "max_position_embeddings": 8192, "tie_word_embeddings": False,
    "torch_dtype": "bfloat16", "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu",
    "attention_bias": False, "mlp_bias": False,
}
SHARD = 5_000_000_000  # bytes


def tensors(layers):
    yield "model.embed_tokens.weight", (VOCAB, HIDDEN)
    for i in range(layers):
        block = f"model.layers.{i}."
        yield block + "input_layernorm.weight", (HIDDEN,)
        yield block + "mlp.down_proj.weight", (HIDDEN, INNER)
        yield block + "mlp.gate_proj.weight", (INNER, HIDDEN)
        yield block + "mlp.up_proj.weight", (INNER, HIDDEN)
        yield block + "post_attention_layernorm.weight", (HIDDEN,)
        yield block + "self_attn.k_proj.weight", (KV_HEADS * HEAD, HIDDEN)
        yield block + "self_attn.o_proj.weight", (HIDDEN, HIDDEN)
        yield block + "self_attn.q_proj.weight", (HIDDEN, HIDDEN)
        yield block + "self_attn.v_proj.weight", (KV_HEADS * HEAD, HIDDEN)
    yield "model.norm.weight", (HIDDEN,)
    yield "lm_head.weight", (VOCAB, HIDDEN)


def shards(layers):
    current, size = [], 0
    for name, shape in tensors(layers):
        bytes_ = 2 * math.prod(shape)
        if current and size + bytes_ > SHARD:
            yield current
            current, size = [], 0
        current.append((name, shape, bytes_))
        size += bytes_
    yield current


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path), parser.add_argument("tokenizer", type=pathlib.Path)
    parser.add_argument("--layers", type=int, default=32)
    args = parser.parse_args()
    args.out.mkdir(parents=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(args.tokenizer / name, args.out / name)
    (args.out / "config.json").write_text(json.dumps(CONFIG | {"num_hidden_layers": args.layers}, indent=1))
    values = np.random.default_rng(1).standard_normal(32 << 20, np.float32) * np.float32(0.02)
    block = memoryview((values.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8))
    files = list(shards(args.layers))
    index = {}
    for number, part in enumerate(files, 1):
        name = f"model-{number:05}-of-{len(files):05}.safetensors"
        header, at = {}, 0
        for tensor, shape, bytes_ in part:
            header[tensor] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + bytes_]}
            index[tensor] = name
            at += bytes_
        text = json.dumps(header).encode()
        with open(args.out / name, "wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for left in range(at, 0, -len(block)):
                file.write(block[:min(left, len(block))])
        print(name, at)
    total = sum(b for part in files for _, _, b in part)
    (args.out / "model.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": index}))


if __name__ == "__main__":
    main()
