#!/usr/bin/env python3
"""Kills `nibble quantize` at many moments: each next run goes on, and the bytes at the end are those of a run in peace."""
import array
import json
import pathlib
import random
import shlex
import signal
import struct
import subprocess
import sys
import tempfile
import time

KILLS = int(sys.argv[2]) if len(sys.argv) > 2 else 8
# Words enough for windows of 512 tokens; what they say does not matter.
WORDS = "the model reads and writes small numbers of every kind while the weights become smaller and the text goes on ".split()


WIDTH, HIDDEN, HEADS, LAYERS = 128, 160, 4, 6


def bf16(pick, count, scale):
    floats = array.array("f", (scale * pick.gauss(0, 1) for _ in range(count)))
    return b"".join(struct.pack("<H", bits >> 16) for bits in memoryview(floats).cast("B").cast("I"))


def write_checkpoint(folder, pick):
    """A small random Llama, with a tokenizer of single characters."""
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
        "rope_theta": 10000.0, "tie_word_embeddings": True, "torch_dtype": "bfloat16"}))
    shapes = {"model.embed_tokens.weight": (len(vocab), WIDTH), "model.norm.weight": (WIDTH,)}
    for layer in range(LAYERS):
        at = f"model.layers.{layer}."
        shapes |= {at + f"self_attn.{m}_proj.weight": (WIDTH, WIDTH) for m in "qkvo"}
        shapes |= {at + "mlp.gate_proj.weight": (HIDDEN, WIDTH), at + "mlp.up_proj.weight": (HIDDEN, WIDTH),
                   at + "mlp.down_proj.weight": (WIDTH, HIDDEN), at + "input_layernorm.weight": (WIDTH,),
                   at + "post_attention_layernorm.weight": (WIDTH,)}
    header, data = {}, b""
    for name, shape in shapes.items():
        one = b"\x80\x3f" * shape[0] if len(shape) == 1 else bf16(pick, shape[0] * shape[1], shape[1] ** -0.5)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [len(data), len(data) + len(one)]}
        data += one
    encoded = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(encoded)) + encoded + data)


def text(seed):
    pick = random.Random(seed)
    return " ".join(pick.choice(WORDS) for _ in range(6000)) + "\n"


class Runs:
    def __init__(self, program, folder, model, options):
        self.command = [*shlex.split(program), "quantize", model, *options, "--force"]
        self.folder = folder

    def start(self, name):
        return subprocess.Popen([*self.command, "-o", self.folder / name], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def finish(self, name):
        process = self.start(name)
        said = process.communicate()[1]
        if process.returncode != 0:
            sys.exit(f"exit code {process.returncode}: {said}")
        return (self.folder / name).read_bytes(), said


def interrupt(runs, name, whole, pick, seconds):
    """Kills runs at random points until KILLS died; returns how many went on from a journal. A file under the final name is whole."""
    went_on = killed = 0
    while killed < KILLS:
        process = runs.start(name)
        time.sleep(pick.uniform(0.02, 0.9) * seconds)
        process.send_signal(signal.SIGKILL)
        went_on += "going on from" in process.communicate()[1]
        if (runs.folder / name).exists():  # it was faster: start over
            if (runs.folder / name).read_bytes() != whole:
                sys.exit("an unfinished file has its final name")
            (runs.folder / name).unlink()
            seconds *= 0.9
        else:
            killed += 1
    return went_on


def main():
    program = sys.argv[1]
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        model = folder / "model"
        model.mkdir()
        write_checkpoint(model, random.Random(3))
        (folder / "text.txt").write_text(text(1))
        for options in (["--to", "Q4_K_M", "--recipe", "gptq"], ["--bpw", "6", "--recipe", "gptq"]):
            runs = Runs(program, folder, model, [*options, "--calib", folder / "text.txt"])
            begin = time.monotonic()
            whole, _ = runs.finish("whole.gguf")
            seconds = time.monotonic() - begin
            went_on = interrupt(runs, "cut.gguf", whole, random.Random(7), seconds)
            again, said = runs.finish("cut.gguf")
            if again != whole:
                sys.exit(f"{options}: other bytes after {KILLS} kills")
            left = [path.name for path in folder.iterdir() if path.suffix in (".part", ".journal")]
            if left:
                sys.exit(f"left over: {left}")
            print(f"{' '.join(options)}: {KILLS} kills, {went_on} runs went on from a journal, {len(whole)} equal bytes")
            if went_on == 0:
                sys.exit("no run went on: the kills came too early to test anything")
            (folder / "cut.gguf").unlink()


if __name__ == "__main__":
    main()
