#!/usr/bin/env python3
"""Writes the well-formed seeds of fuzz/corpus (needs the packages numpy and gguf 0.19): `fuzz/make_corpus.py`.

What the fuzzer finds later is added by hand under a name that says what it showed.
"""
import json
import pathlib
import struct

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter

CORPUS = pathlib.Path(__file__).resolve().parent / "corpus"
SIZES = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
         "vocab_size": 32, "max_position_embeddings": 128, "rms_norm_eps": 1e-5, "head_dim": 16}
CONFIGS = {
    "llama": {"architectures": ["LlamaForCausalLM"], "hidden_act": "silu", "rope_theta": 10000.0, "tie_word_embeddings": True},
    "llama3": {"architectures": ["LlamaForCausalLM"], "hidden_act": "silu", "rope_theta": 5e5, "rope_scaling": {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}},
    "mistral": {"architectures": ["MistralForCausalLM"], "hidden_act": "silu", "sliding_window": 32},
    "qwen2": {"architectures": ["Qwen2ForCausalLM"], "hidden_act": "silu", "use_sliding_window": False, "rope_theta": 1e6},
    "qwen3": {"architectures": ["Qwen3ForCausalLM"], "hidden_act": "silu", "use_sliding_window": False, "rope_theta": 1e6},
    "gemma3": {"architectures": ["Gemma3ForCausalLM"], "hidden_activation": "gelu_pytorch_tanh", "sliding_window": 16,
               "query_pre_attn_scalar": 16, "sliding_window_pattern": 2, "rope_local_base_freq": 10000.0},
}


def save(target, name, content):
    path = CORPUS / target / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def safetensors(tensors):
    header = json.dumps(tensors).encode()
    end = max((t["data_offsets"][1] for t in tensors.values() if "data_offsets" in t), default=0)
    return len(header).to_bytes(8, "little") + header + bytes(end)


def gguf(name, fill, target="gguf"):
    path = CORPUS / target / name
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = GGUFWriter(path, "llama")
    fill(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def model(writer):
    for key, value in (("block_count", 1), ("context_length", 128), ("embedding_length", 32), ("feed_forward_length", 32),
                       ("attention.head_count", 2), ("attention.head_count_kv", 1), ("vocab_size", 8)):
        writer.add_uint32(f"llama.{key}", value)
    writer.add_float32("llama.attention.layer_norm_rms_epsilon", 1e-5)
    block = {"attn_q": (32, 32), "attn_k": (16, 32), "attn_v": (16, 32), "attn_output": (32, 32), "ffn_gate": (32, 32),
             "ffn_up": (32, 32), "attn_norm": (32,), "ffn_norm": (32,)}
    writer.add_tensor("token_embd.weight", np.zeros((8, 32), np.float32))
    writer.add_tensor("output_norm.weight", np.zeros(32, np.float32))
    for name, shape in block.items():
        writer.add_tensor(f"blk.0.{name}.weight", np.zeros(shape, np.float16 if len(shape) == 2 else np.float32))
    writer.add_tensor("blk.0.ffn_down.weight", np.zeros((32, 34), np.uint8), raw_dtype=GGMLQuantizationType.Q8_0)


def kinds(writer):
    writer.add_bool("a.bool", True)
    for bits in (8, 16, 32, 64):
        getattr(writer, f"add_uint{bits}")(f"a.u{bits}", 7)
        getattr(writer, f"add_int{bits}")(f"a.i{bits}", -7)
    writer.add_float64("a.f64", 0.5)
    writer.add_array("a.strings", ["one", "zwei", "três"])
    writer.add_array("a.floats", [0.5, 1.5])


def imatrix(writer):
    writer.add_string("general.type", "imatrix")
    writer.add_array("imatrix.datasets", ["text"])
    writer.add_uint32("imatrix.chunk_count", 3)
    writer.add_uint32("imatrix.chunk_size", 512)
    for name, experts in (("blk.0.attn_q.weight", 1), ("blk.0.ffn_up_exps.weight", 2)):
        writer.add_tensor(f"{name}.in_sum2", np.ones((experts, 4), np.float32))
        writer.add_tensor(f"{name}.counts", np.arange(experts, dtype=np.float32).reshape(experts, 1))


def legacy_imatrix():
    name = b"blk.0.attn_q.weight"
    entry = struct.pack("<i", len(name)) + name + struct.pack("<ii3f", 4, 3, 0.0, 1.0, 2.5)
    return struct.pack("<i", 1) + entry + struct.pack("<ii", 3, 4) + b"text"


def hub():
    listing = {"sha": "0123456789abcdef", "siblings": [
        {"rfilename": "config.json", "size": 12, "blobId": "00" * 20},
        {"rfilename": "a/../../b.gguf", "size": 0, "blobId": None},
        {"rfilename": "model.safetensors", "size": 1 << 33, "lfs": {"sha256": "00" * 32, "size": 1 << 33}}]}
    save("hub", "listing", json.dumps(listing).encode())
    save("hub", "index", json.dumps({"metadata": {}, "weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors"}}).encode())
    save("hub", "name", b"org/name@refs/pr/1:Q4_K_M")


def blocks():
    """The first byte chooses the format; 210 bytes are the largest block."""
    random = np.random.default_rng(1)
    for i in range(16):
        save("unpack", f"{i:02}", bytes([i]) + random.integers(0, 256, 210, np.uint8).tobytes())


def overrides():
    """An override, a line end, a tensor name."""
    for i, text in enumerate(("ffn_down=q6_k", r"blk\.(1|2)\d?\.attn_[vk]=q8_0", "^[^a-z]*(a+)+$=f16", "x{2,30}y{3}z?=q4_k")):
        save("override", f"{i}", text.encode() + b"\nblk.12.attn_v.weight")


def main():
    overrides()
    gguf("model", imatrix, target="imatrix")
    save("imatrix", "legacy", legacy_imatrix())
    hub()
    blocks()
    for name, config in CONFIGS.items():
        save("config", f"{name}.json", json.dumps({**SIZES, **config}).encode())
    save("safetensors", "empty", safetensors({}))
    save("safetensors", "two", safetensors({
        "__metadata__": {"format": "pt"}, "a": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]},
        "b": {"dtype": "F32", "shape": [], "data_offsets": [12, 16]}}))
    gguf("model", model)
    gguf("kinds", kinds)


if __name__ == "__main__":
    main()
