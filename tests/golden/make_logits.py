#!/usr/bin/env python3
"""Writes the tiny random checkpoints in tests/golden/tiny and what Transformers makes of them.

Made with torch 2.15.0 and transformers 5.23.0; run it in an environment that has both:
    python3 tests/golden/make_logits.py [NAME...]

For each model: config.json (written by hand, in the styles that real checkpoints have),
model.safetensors, and logits.bin: float32 little-endian [40 tokens][vocab], computed in float32
with eager attention. The tokens are (7 t^2 + 3 t + 1) mod vocab for t = 0..39.
"""
import json
import pathlib
import sys

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

HERE = pathlib.Path(__file__).parent / "tiny"
TOKENS = 40
BASE = dict(hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, vocab_size=128, rms_norm_eps=1e-5, max_position_embeddings=64,
            bos_token_id=1, eos_token_id=2, torch_dtype="bfloat16")


def llama(**more):
    return BASE | dict(architectures=["LlamaForCausalLM"], model_type="llama", hidden_act="silu",
                       rope_theta=500.0) | more


MODELS = {
    # The scaling's three regions of wavelengths all occur: 2 pi to 2 pi 500^(7/8) against 32/4..32/1.
    "llama3": llama(tie_word_embeddings=True, rope_scaling=dict(
        rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
        original_max_position_embeddings=32)),
    # Untied, biases everywhere, heads wider than hidden/heads, each head its own keys; float32.
    "llama_bias": llama(tie_word_embeddings=False, attention_bias=True, mlp_bias=True, head_dim=24,
                        num_attention_heads=2, torch_dtype="float32"),
    "llama_linear": llama(tie_word_embeddings=True,
                          rope_scaling=dict(type="linear", factor=4.0)),
    # The style of transformers 5.
    "llama_yarn": llama(tie_word_embeddings=True, rope_theta=None, rope_parameters=dict(
        rope_type="yarn", rope_theta=500.0, factor=4.0, original_max_position_embeddings=16,
        beta_fast=8.0, beta_slow=1.0)),
    "mistral": BASE | dict(architectures=["MistralForCausalLM"], model_type="mistral",
                           hidden_act="silu", rope_theta=1000.0, sliding_window=8, head_dim=16,
                           tie_word_embeddings=False),
    "qwen2": BASE | dict(architectures=["Qwen2ForCausalLM"], model_type="qwen2", hidden_act="silu",
                         rope_theta=1000.0, use_sliding_window=False, sliding_window=8,
                         max_window_layers=2, tie_word_embeddings=True, rms_norm_eps=1e-6),
    "qwen3": BASE | dict(architectures=["Qwen3ForCausalLM"], model_type="qwen3", hidden_act="silu",
                         rope_theta=1000.0, head_dim=32, attention_bias=False, rope_scaling=None,
                         use_sliding_window=False, tie_word_embeddings=True),
    # One windowed layer, one that sees everything; the scale is not that of head_dim.
    "gemma3": BASE | dict(architectures=["Gemma3ForCausalLM"], model_type="gemma3_text",
                          hidden_activation="gelu_pytorch_tanh", rope_theta=1e6,
                          rope_local_base_freq=100.0, sliding_window=8, sliding_window_pattern=2,
                          head_dim=32, query_pre_attn_scalar=24, final_logit_softcapping=20.0,
                          attn_logit_softcapping=None,
                          rope_scaling=dict(rope_type="linear", factor=8.0)),
}


def weight(name, shape, generator, gemma):
    """Of a size at which attention is neither flat nor a choice of one token."""
    x = torch.randn(shape, generator=generator)
    if "norm" in name:
        return 0.2 * x + (0 if gemma else 1)
    if name.endswith("bias"):
        return 0.5 * x
    return x if "embed_tokens" in name and not gemma else 0.15 * x


def make(name, seed):
    folder = HERE / name
    folder.mkdir(parents=True, exist_ok=True)
    config = {k: v for k, v in MODELS[name].items() if not (k == "rope_theta" and v is None)}
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    generator = torch.Generator().manual_seed(seed)
    dtype = getattr(torch, config["torch_dtype"])
    tensors = {}
    for key, old in model.state_dict().items():
        if key == "lm_head.weight" and config.get("tie_word_embeddings", True):
            continue
        tensors[key] = weight(key, old.shape, generator, "Gemma" in config["architectures"][0]).to(dtype)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32,
                                                 attn_implementation="eager").eval()
    t = torch.arange(TOKENS)
    tokens = (7 * t * t + 3 * t + 1) % config["vocab_size"]
    with torch.no_grad():
        logits = model(tokens[None], use_cache=False).logits[0].float().numpy()
    logits.astype("<f4").tofile(folder / "logits.bin")
    print(f"{name}: logits {logits.shape}, rms {np.sqrt((logits ** 2).mean()):.3f}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for i, name in enumerate(MODELS):
        if not sys.argv[1:] or name in sys.argv[1:]:
            make(name, 100 + i)
