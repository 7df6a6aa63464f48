#!/usr/bin/env python3
"""Writes a Hugging Face checkpoint (BF16) in the shape of a config of Llama or Mistral, with random weights.

    make_large.py OUT CONFIG.json TOKENIZER_DIR [--layers N]

For measuring memory, sizes and speed; configs are in tests/configs. The tokenizer of TOKENIZER_DIR is cut to the config's
vocabulary; rows beyond it stay unused. Weights repeat a block of 32 million random values, normal with standard
deviation 0.02: 16 GB are made in a minute, no packages needed but numpy.
"""
import argparse
import json
import math
import pathlib

import numpy as np

SHARD = 5_000_000_000  # bytes


def tensors(config):
    hidden, inner, vocab = (config[f"{name}_size"] for name in ("hidden", "intermediate", "vocab"))
    heads = config["num_attention_heads"]
    head = config.get("head_dim", hidden // heads)
    queries, keys = heads * head, config.get("num_key_value_heads", heads) * head
    yield "model.embed_tokens.weight", (vocab, hidden)
    for i in range(config["num_hidden_layers"]):
        block = f"model.layers.{i}."
        yield block + "input_layernorm.weight", (hidden,)
        yield block + "mlp.down_proj.weight", (hidden, inner)
        yield block + "mlp.gate_proj.weight", (inner, hidden)
        yield block + "mlp.up_proj.weight", (inner, hidden)
        yield block + "post_attention_layernorm.weight", (hidden,)
        yield block + "self_attn.k_proj.weight", (keys, hidden)
        yield block + "self_attn.o_proj.weight", (hidden, queries)
        yield block + "self_attn.q_proj.weight", (queries, hidden)
        yield block + "self_attn.v_proj.weight", (keys, hidden)
    yield "model.norm.weight", (hidden,)
    if not config.get("tie_word_embeddings"):
        yield "lm_head.weight", (vocab, hidden)


def cut_tokenizer(folder, out, vocab):
    """Byte-pair tokens are numbered in the order of their merges: what is left can still be merged."""
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    model = tokenizer["model"]
    model["vocab"] = {token: number for token, number in model["vocab"].items() if number < vocab}
    pairs = [(merge, merge.split(" ") if isinstance(merge, str) else merge) for merge in model["merges"]]
    model["merges"] = [merge for merge, parts in pairs if "".join(parts) in model["vocab"]]
    (out / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False))
    (out / "tokenizer_config.json").write_text((folder / "tokenizer_config.json").read_text())


def shards(config):
    current, size = [], 0
    for name, shape in tensors(config):
        bytes_ = 2 * math.prod(shape)
        if current and size + bytes_ > SHARD:
            yield current
            current, size = [], 0
        current.append((name, shape, bytes_))
        size += bytes_
    yield current


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("out", "config", "tokenizer"):
        parser.add_argument(name, type=pathlib.Path)
    parser.add_argument("--layers", type=int, help="instead of the config's")
    args = parser.parse_args()
    config = json.loads(args.config.read_text())
    config["num_hidden_layers"] = args.layers or config["num_hidden_layers"]
    args.out.mkdir(parents=True)
    cut_tokenizer(args.tokenizer, args.out, config["vocab_size"])
    (args.out / "config.json").write_text(json.dumps(config, indent=1))
    values = np.random.default_rng(1).standard_normal(32 << 20, np.float32) * np.float32(0.02)
    block = memoryview((values.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8))
    files = list(shards(config))
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
