#!/usr/bin/env python3
"""Perplexity of the real checkpoint in F16 by the plain procedure: within 0.1% of Transformers in float32."""
import math
import pathlib
import sys

import torch
import transformers

import common

CONTEXT, CHUNKS = 512, 4


def judge(source):
    """Perplexity of the first windows: no BOS, every token but the first of each window scored."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(source)
    model = transformers.AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    ids = tokenizer(common.TEXT.read_text(encoding="utf-8"), return_tensors="pt", add_special_tokens=False).input_ids[0]
    total = tokens = 0
    with torch.no_grad():
        for window in ids[:CHUNKS * CONTEXT].view(CHUNKS, CONTEXT):
            logits = model(window[None]).logits[0, :-1].double()
            total += torch.nn.functional.cross_entropy(logits, window[1:], reduction="sum").item()
            tokens += CONTEXT - 1
    return math.exp(total / tokens), tokens


def main():
    torch.set_num_threads(1)
    source = common.model(sys.argv[1])
    checks = common.Checks()
    with common.scratch() as folder:
        file = pathlib.Path(folder) / "model.gguf"
        common.nibble("convert", source, "-o", file, "--to", "F16")
        ours = common.nibble_json("eval", file, "--text", common.TEXT, "--ctx", CONTEXT, "--chunks", CHUNKS, "--threads", 1)
    theirs, tokens = judge(source)
    checks.equal("tokens scored", ours["tokens"], tokens)
    checks.at_most("relative difference of perplexity", abs(ours["perplexity"] / theirs - 1), 0.001)
    checks.finish()


if __name__ == "__main__":
    main()
