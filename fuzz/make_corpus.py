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


def filled_safetensors(parts):
    """Random bytes of the given dtypes and shapes: {name: (dtype, shape) or (dtype, shape, bytes)}."""
    sizes = {"F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "U32": 4}
    random, header, data = np.random.default_rng(2), {}, b""
    for name, (dtype, shape, *content) in parts.items():
        size = int(np.prod(shape, dtype=np.int64)) * sizes.get(dtype, 1)
        content = content[0] if content else random.integers(0, 120, size, np.uint8).tobytes()
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + size]}
        data += content
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def schemes():
    """config.json in one line, then a .safetensors file."""
    state = json.dumps({"quant_type": "nf4", "blocksize": 64, "shape": [2, 64], "nested_blocksize": 256, "nested_offset": 0.1}).encode()
    nf4 = np.array([-1.0, -0.6961928, -0.52507305, -0.3949175, -0.28444138, -0.18477343, -0.091050036, 0.0, 0.0795803, 0.1609302,
                    0.2461123, 0.33791524, 0.44070983, 0.562617, 0.72295684, 1.0], np.float32).tobytes()
    seeds = {
        "gptq": ({"quant_method": "gptq", "bits": 4, "group_size": 32}, {
            "x.qweight": ("I32", [8, 8]), "x.qzeros": ("I32", [2, 1]), "x.scales": ("F16", [2, 8]),
            "x.g_idx": ("I32", [64], (np.arange(64, dtype=np.int32) % 2).tobytes())}),
        "gptq3": ({"quant_method": "gptq", "bits": 3, "group_size": -1, "sym": False, "checkpoint_format": "gptq_v2"}, {
            "x.qweight": ("I32", [3, 32]), "x.qzeros": ("I32", [1, 3]), "x.scales": ("F16", [1, 32])}),
        "awq": ({"quant_method": "awq", "bits": 4, "group_size": 32, "version": "gemm"}, {
            "x.qweight": ("I32", [32, 1]), "x.qzeros": ("I32", [1, 1]), "x.scales": ("BF16", [1, 8])}),
        "nf4": ({"quant_method": "bitsandbytes"}, {
            "x.weight": ("U8", [64, 1]), "x.weight.absmax": ("U8", [2]), "x.weight.quant_map": ("F32", [16], nf4),
            "x.weight.nested_absmax": ("F32", [1]), "x.weight.nested_quant_map": ("F32", [256]),
            "x.weight.quant_state.bitsandbytes__nf4": ("U8", [len(state)], state)}),
        "int8": ({"quant_method": "bitsandbytes"}, {"x.weight": ("I8", [2, 32]), "x.SCB": ("F32", [2]), "x.weight_format": ("U8", [], b"\0")}),
        "packed": ({"quant_method": "compressed-tensors"}, {
            "x.weight_packed": ("I32", [8, 4]), "x.weight_scale": ("BF16", [8, 1]), "x.weight_zero_point": ("I32", [1, 1]),
            "x.weight_shape": ("I64", [2], np.array([8, 32]).tobytes())}),
        "ordered": ({"quant_method": "compressed-tensors", "config_groups": {"g": {"targets": ["Linear"], "weights": {
            "type": "int", "num_bits": 4, "actorder": "group"}}}}, {
                "x.weight_packed": ("I32", [8, 8]), "x.weight_scale": ("BF16", [8, 2]), "x.weight_shape": ("I64", [2], np.array([8, 64]).tobytes()),
                "x.weight_g_idx": ("I32", [64], (np.arange(64, dtype=np.int32) % 2).tobytes())}),
        "blocks": ({"quant_method": "fp8", "activation_scheme": "static", "weight_block_size": [2, 32]}, {
            "x.weight": ("F8_E4M3", [3, 64]), "x.weight_scale_inv": ("F32", [2, 2]), "x.activation_scale": ("F32", [], np.ones(1, np.float32).tobytes())}),
        "fp8": ({"quant_method": "compressed-tensors"}, {"x.weight": ("F8_E4M3", [2, 32]), "x.weight_scale": ("F32", [1])}),
        "nvfp4": ({"quant_method": "compressed-tensors"}, {
            "x.weight_packed": ("U8", [2, 16]), "x.weight_scale": ("F8_E4M3", [2, 2]), "x.weight_global_scale": ("F32", [1])}),
        "mlx": ({"quant_method": None}, {"x.weight": ("U32", [2, 4]), "x.scales": ("F16", [2, 1]), "x.biases": ("F16", [2, 1])}),
    }
    for name, (settings, parts) in seeds.items():
        config = {"quantization": {"group_size": 32, "bits": 4}} if name == "mlx" else {"quantization_config": settings}
        save("scheme", name, json.dumps(config).encode() + b"\n" + filled_safetensors(parts))


def overrides():
    """An override, a line end, a tensor name."""
    for i, text in enumerate(("ffn_down=q6_k", r"blk\.(1|2)\d?\.attn_[vk]=q8_0", "^[^a-z]*(a+)+$=f16", "x{2,30}y{3}z?=q4_k")):
        save("override", f"{i}", text.encode() + b"\nblk.12.attn_v.weight")


def byte_alphabet():
    """The 256 characters by which byte-level BPE spells bytes."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [chr(b) for b in plain] + [chr(256 + i) for i in range(256 - len(plain))]


def tokenizer_json(vocab, model, **others):
    """`vocab`: the model's tokens in the order of their ids. The first is an added one."""
    parts = {key: others.get(key) for key in ("normalizer", "pre_tokenizer", "post_processor", "decoder")}
    return {"version": "1.0", "added_tokens": [
        {"id": 0, "content": vocab[0], "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
         "special": True}], **parts, "model": {"vocab": {token: i for i, token in enumerate(vocab)}, **model}}


def tokenizers():
    """tokenizer.json, tokenizer_config.json and a text, with zero bytes between them."""
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    space = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
    back = {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}
    bos = {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
           "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
           "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}}}
    merges = [["h", "e"], ["l", "l"], ["he", "ll"], ["hell", "o"]]
    words = ["he", "ll", "hell", "hello"]
    digits = {"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": "\\p{N}{1,3}|\\s+(?!\\S)"}, "behavior": "Isolated", "invert": False},
        {"type": "Digits", "individual_digits": True}, {**level, "use_regex": False}]}
    files = {
        "gpt2": tokenizer_json(["<s>", *byte_alphabet(), *words], {"type": "BPE", "merges": merges}, pre_tokenizer=level, decoder=level,
                               post_processor=bos),
        "digits": tokenizer_json(["<s>", "h", "e", "1"], {"type": "BPE", "merges": [], "ignore_merges": True}, pre_tokenizer=digits,
                                 normalizer={"type": "NFC"}, decoder=level),
        "llama": tokenizer_json(["<unk>", "<s>", *(f"<0x{i:02X}>" for i in range(256)), *"\u2581helo", *words],
                                {"type": "BPE", "byte_fallback": True, "unk_token": "<unk>", "fuse_unk": True, "merges": merges},
                                normalizer={"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "\u2581"}, space]},
                                decoder={"type": "Sequence", "decoders": [back, {"type": "ByteFallback"}, {"type": "Fuse"}, {
                                    "type": "Strip", "content": " ", "start": 1, "stop": 0}]}),
        "wordpiece": tokenizer_json(["[UNK]", "he", "##llo"], {"type": "WordPiece", "unk_token": "[UNK]", "max_input_chars_per_word": 100,
                                                              "continuing_subword_prefix": "##"},
                                    normalizer={"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                                                "strip_accents": None, "lowercase": True},
                                    pre_tokenizer={"type": "BertPreTokenizer"}, decoder={"type": "WordPiece", "prefix": "##", "cleanup": True}),
        "metaspace": tokenizer_json(["<unk>"], {}, decoder={"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first",
                                                            "split": True},
                                    pre_tokenizer={"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first", "split": True})}
    files["metaspace"]["model"] = {"type": "Unigram", "unk_id": 0, "byte_fallback": False,
                                   "vocab": [["<unk>", 0.0], ["\u2581he", -1.5], ["l", -2.0], ["o", -2.5]]}
    config = {"add_bos_token": True, "bos_token": {"content": "<s>"}, "eos_token": "<s>", "pad_token": None,
              "chat_template": [{"name": "default", "template": "{{ messages[0].content }}"}]}
    for name, content in files.items():
        text = json.dumps(content, ensure_ascii=False).encode()
        save("tokenizer", name, b"\0".join((text, json.dumps(config).encode(), "hello <s> h\u00e9 12345\n\n".encode())))


def vocabulary(kind):
    def fill(writer):
        writer.add_string("tokenizer.ggml.model", kind)
        writer.add_string("tokenizer.ggml.pre", "smollm")
        tokens = ["<unk>", "<s>", "<0x0A>", "he", "ll", "hell", "hello", *"helo\u2581"]
        writer.add_array("tokenizer.ggml.tokens", tokens)
        writer.add_array("tokenizer.ggml.token_type", [2, 3, 6] + [1] * (len(tokens) - 3))
        writer.add_array("tokenizer.ggml.scores", [-float(i) for i in range(len(tokens))])
        writer.add_array("tokenizer.ggml.merges", ["h e", "l l", "he ll", "hell o"])
        writer.add_uint32("tokenizer.ggml.bos_token_id", 1)
        writer.add_bool("tokenizer.ggml.add_bos_token", True)
        writer.add_string("tokenizer.chat_template", "{{ messages[0].content }}")
    return fill


# Templates of every kind of statement, and some that would never end, or fill the memory or the stack.
TEMPLATES = {
    "turns": "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>\n{{ m['content'] | trim }}<|end|>\n{% endfor %}"
             "{% if add_generation_prompt %}<|assistant|>\n{% endif %}",
    "system": "{%- if messages[0]['role'] == 'system' -%}{%- set s = messages[0].content -%}{%- set rest = messages[1:] -%}{%- else -%}"
              "{%- set s = '' -%}{%- set rest = messages -%}{%- endif -%}{%- for m in rest -%}{%- if (m.role == 'user') != (loop.index0 % 2 == 0)"
              " -%}{{ raise_exception('turns must alternate') }}{%- endif -%}[{{ m.role ~ s }}]{%- endfor -%}",
    "tools": "{% macro one(t) %}{{ t.name }}: {{ t | tojson(indent=2) }}{% endmacro %}{% set ns = namespace(n=0) %}{% for t in tools %}"
             "{{ one(t) }}{% set ns.n = ns.n + 1 %}{% if loop.last %}{% break %}{% endif %}{% else %}none{% endfor %}{{ ns.n }}"
             "{{ strftime_now('%d %b %Y') }}{% generation %}x{% endgeneration %}",
    "text": "{% for m in messages %}{{ m.content.split('<think>')[-1].lstrip('\\n').replace('a', 'b').upper() | string | length }}"
            "{{ m.items() | list | join(', ') }}{{ '%s %d' | format('a', 1) }}{{ m.get('x', none) is defined }}{% endfor %}",
    "endless": "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
    "recursive": "{% macro f(x) %}{{ f([x]) }}{% endmacro %}{{ f(1) }}",
    "doubling": "{% set ns = namespace(s='x') %}{% for i in range(100) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
    "huge": "{{ 'a' * 100000000000 }}{{ [1] * 100000000000 }}{{ range(1000000000) | list }}",
    "deep": "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
    "nested": "{% if 1 %}" * 300 + "{% endif %}" * 300,
}


def chats():
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": "a <think>"}, {"role": "assistant", "content": "b"}]
    variables = {"tools": [{"name": "f", "parameters": {"type": "object"}}]}
    for name, template in TEMPLATES.items():
        save("chat", name, b"\0".join((template.encode(), json.dumps(messages).encode(), json.dumps(variables).encode())))


def questions():
    items = {"task": [{"prompt": "1+1?", "expected": "2"}, {"prompt": "a", "expected": "^(b|c)+$", "match": "regex", "max_tokens": 8}],
             "choices": [{"context": "a", "endings": ["b", " c"], "label": 1}, {"question": "a", "choices": ["b", "c", "d"], "answer": "B"}]}
    for name, lines in items.items():
        save("questions", name, "\n\n".join(json.dumps(line) for line in lines).encode())
    save("questions", "nested", json.dumps({"prompt": "a", "expected": "(" * 30000 + ")" * 30000, "match": "regex"}).encode())


def main():
    overrides()
    tokenizers()
    chats()
    questions()
    for kind in ("gpt2", "llama"):
        gguf(kind, vocabulary(kind), target="vocabulary")
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
    schemes()
    gguf("model", model)
    gguf("kinds", kinds)


if __name__ == "__main__":
    main()
