"""Small checkpoints and texts for the tests that run the program."""
import array
import json
import random
import struct

# Words enough for windows of 512 tokens; what they say does not matter.
WORDS = "the model reads and writes small numbers of every kind while the weights become smaller and the text goes on ".split()


WIDTH, HIDDEN, HEADS, LAYERS = 128, 192, 4, 6


def bf16(pick, count, scale):
    floats = array.array("f", (scale * pick.gauss(0, 1) for _ in range(count)))
    return b"".join(struct.pack("<H", bits >> 16) for bits in memoryview(floats).cast("B").cast("I"))


def write(folder, pick, pack=None):
    """A small random Llama, with a tokenizer of single characters.

    pack(name, rows, columns), for the matrices of its layers, gives other tensors in their place: {name: (dtype, shape, bytes)};
    pack.settings is what config.json then says of them.
    """
    characters = [chr(c) for c in range(33, 127)] + ["\u0120", "\u010a"]  # space and line end, as byte-level tokenizers write them
    vocab = {"<s>": 0, **{c: i + 1 for i, c in enumerate(characters)}}
    (folder / "tokenizer.json").write_text(json.dumps({
        "version": "1.0", "truncation": None, "padding": None, "normalizer": None,
        "added_tokens": [{"id": 0, "content": "<s>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
                          "special": True}],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
                  "fuse_unk": False, "byte_fallback": False, "vocab": vocab, "merges": []}}))
    (folder / "config.json").write_text(json.dumps({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": WIDTH, "intermediate_size": HIDDEN,
        "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "num_key_value_heads": HEADS, "vocab_size": len(vocab),
        "rms_norm_eps": 1e-5, "max_position_embeddings": 512, "bos_token_id": 0, "eos_token_id": 0, "hidden_act": "silu",
        "rope_theta": 10000.0, "tie_word_embeddings": True, "torch_dtype": "bfloat16",
        **({"quantization_config": pack.settings} if pack else {})}))
    shapes = {"model.embed_tokens.weight": (len(vocab), WIDTH), "model.norm.weight": (WIDTH,)}
    for layer in range(LAYERS):
        at = f"model.layers.{layer}."
        shapes |= {at + f"self_attn.{m}_proj.weight": (WIDTH, WIDTH) for m in "qkvo"}
        shapes |= {at + "mlp.gate_proj.weight": (HIDDEN, WIDTH), at + "mlp.up_proj.weight": (HIDDEN, WIDTH),
                   at + "mlp.down_proj.weight": (WIDTH, HIDDEN), at + "input_layernorm.weight": (WIDTH,),
                   at + "post_attention_layernorm.weight": (WIDTH,)}
    tensors = {}
    for name, shape in shapes.items():
        if pack and len(shape) == 2 and "layers" in name:
            tensors |= pack(name.removesuffix(".weight"), *shape)
        else:
            one = b"\x80\x3f" * shape[0] if len(shape) == 1 else bf16(pick, shape[0] * shape[1], shape[1] ** -0.5)
            tensors[name] = ("BF16", shape, one)
    header, data = {}, b""
    for name, (dtype, shape, one) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(one)]}
        data += one
    encoded = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(encoded)) + encoded + data)


def text(seed):
    pick = random.Random(seed)
    return " ".join(pick.choice(WORDS) for _ in range(6000)) + "\n"
