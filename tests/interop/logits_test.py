#!/usr/bin/env python3
"""logits_test.py CASE: logits of a tiny random checkpoint against Transformers in float32.

The bound. Both sides compute in float32, u = 2^-24. A sum of K products of random signs, rounded in any order, errs by
about sqrt(K) u of its terms' size: 13 u for K = 160, the widest here. From the embedding to a logit lead 7 dependent steps
a layer (norm, queries and keys, scores and softmax, mix, output, gate and up, down) and the head: 29 independent errors
in the deepest model (4 layers), sqrt(29) 13 u = 70 u. Two sides: sqrt(2) 70 u = 99 u. The greatest of 15,360 errors
stays below six times that. BOUND = 600 u = 3.6e-5, relative to the greatest logit.

--fault shows that a wrong model is found: Transformers is then given rotary frequencies that are off by one in a thousand.
"""
import pathlib
import subprocess
import sys

import numpy as np
import torch
import transformers

import common

BOUND = 600 * 2.0**-24
TOKENS = 48
COMMON = dict(vocab_size=320, hidden_size=64, intermediate_size=160, num_hidden_layers=2, num_attention_heads=4,
              num_key_value_heads=2, head_dim=16, max_position_embeddings=256, rms_norm_eps=1e-5, bos_token_id=1,
              eos_token_id=2, pad_token_id=0)


def rope(theta, **more):
    return {"rope_parameters": {"rope_type": "default", "rope_theta": theta, **more}}


LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 32}
CASES = {
    "llama": ("LlamaForCausalLM", "LlamaConfig", dict(tie_word_embeddings=False, **rope(10000.0))),
    "llama-tied": ("LlamaForCausalLM", "LlamaConfig", dict(tie_word_embeddings=True, **rope(100000.0))),
    "llama3": ("LlamaForCausalLM", "LlamaConfig", dict(tie_word_embeddings=False, **rope(500000.0, **LLAMA3))),
    "llama-linear": ("LlamaForCausalLM", "LlamaConfig",
                     dict(tie_word_embeddings=False, **rope(10000.0, **{"rope_type": "linear", "factor": 4.0}))),
    "mistral": ("MistralForCausalLM", "MistralConfig", dict(sliding_window=None, tie_word_embeddings=False, **rope(10000.0))),
    "mistral-window": ("MistralForCausalLM", "MistralConfig", dict(sliding_window=16, tie_word_embeddings=False, **rope(10000.0))),
    "qwen2": ("Qwen2ForCausalLM", "Qwen2Config", dict(tie_word_embeddings=True, use_sliding_window=False, **rope(1000000.0))),
    "qwen3": ("Qwen3ForCausalLM", "Qwen3Config", dict(tie_word_embeddings=True, use_sliding_window=False, **rope(1000000.0))),
    "gemma3": ("Gemma3ForCausalLM", "Gemma3TextConfig",
               dict(tie_word_embeddings=True, sliding_window=16, num_hidden_layers=4, query_pre_attn_scalar=24,
                    layer_types=["sliding_attention", "full_attention"] * 2,
                    rope_parameters={"sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
                                     "full_attention": {"rope_type": "linear", "rope_theta": 1000000.0, "factor": 8.0}})),
}


def random_model(case):
    """A float32 model whose norms, biases and matrices are all random, none zero or one."""
    model_class, config_class, more = CASES[case]
    config = getattr(transformers, config_class)(**{**COMMON, **more}, attn_implementation="eager")
    torch.manual_seed(3)
    model = getattr(transformers, model_class)(config).float().eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            norm = p.dim() == 1 and "bias" not in name
            p.copy_(torch.randn_like(p) * (0.2 if norm else 0.1) + (0.0 if not norm or case == "gemma3" else 1.0))
    return model


def spoil(model):
    """Rotary frequencies off by one part in a thousand."""
    for module in model.modules():
        for name in [n for n, _ in module.named_buffers(recurse=False) if n.endswith("inv_freq")]:
            setattr(module, name, getattr(module, name) * 1.001)


def nibble_logits(model, ids, folder):
    """What nibble predicts after each token: [tokens, vocabulary]. Works in `folder`."""
    (folder / "tokens").write_text(" ".join(map(str, ids)))
    subprocess.run([common.LOGITS, model, folder / "tokens", folder / "logits"], check=True)
    return np.fromfile(folder / "logits", np.float32).reshape(len(ids), -1)


def main():
    torch.set_num_threads(1)
    case, fault = sys.argv[1], "--fault" in sys.argv
    checks = common.Checks()
    model = random_model(case)
    ids = np.random.default_rng(5).integers(3, COMMON["vocab_size"], TOKENS)
    with common.scratch() as folder:
        folder = pathlib.Path(folder)
        model.save_pretrained(folder / "model")
        if fault:
            spoil(model)
        ours = nibble_logits(folder / "model", ids, folder)
        with torch.no_grad():
            theirs = model(torch.tensor(ids)[None]).logits[0].numpy()
        error = float(np.abs(ours - theirs).max() / np.abs(theirs).max())
        checks.judge(f"{case}: greatest error of a logit, relative to the greatest logit", error, BOUND, fault)
    checks.finish()


if __name__ == "__main__":
    main()
