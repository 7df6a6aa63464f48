#!/usr/bin/env python3
"""level_test.py KIND LEVEL: the checkpoint at one level loads in stock llama.cpp and continues five prompts greedily with
the tokens that nibble picks, on at least four of five for 16 tokens.

The two programs round activations to 8 bits in their own ways, so two nearly equal logits may be told apart differently;
every difference is printed with the lead that stock llama.cpp's choice had over its second.
"""
import pathlib
import sys

import common
import llama

PROMPTS = ["The capital of France is", "To change the tyre of a bicycle, first", "def fibonacci(n):\n    ",
           "Once upon a time there was a", "Water boils at a lower temperature on a mountain because"]
TOKENS, AGREEING = 16, 4


def main():
    kind, level = sys.argv[1:]
    source = common.model(kind)
    checks = common.Checks()
    with common.scratch() as folder:
        file = pathlib.Path(folder) / "model.gguf"
        report = common.nibble_json("quantize", source, "-o", file, "--to", level, "--threads", 1)
        checks.equal("bytes", report["bytes"], file.stat().st_size)
        agreeing = 0
        with llama.Model(file, threads=1) as stock:
            for prompt in PROMPTS:
                ours = common.nibble_json("run", file, "-p", prompt, "-n", TOKENS, "--temp", 0, "--threads", 1)["tokens"]
                theirs, leads = stock.greedy(stock.tokenize(prompt, parse_special=True), TOKENS)
                theirs = theirs[:len(ours)] if len(ours) < TOKENS else theirs  # nibble stops at the end of the text
                apart = next((i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b), None)
                agreeing += apart is None
                if apart is not None:
                    print(f"{prompt!r}: token {apart}: {ours[apart]}, stock {theirs[apart]} with a lead of {leads[apart]:.4f}")
        print(f"{level}: {report['bits_per_weight']:.3f} bits a weight, {agreeing} of {len(PROMPTS)} prompts continued alike")
        if agreeing < AGREEING:
            checks.wrong.append(f"{agreeing} of {len(PROMPTS)} prompts continued alike, at least {AGREEING} wanted")
    checks.finish()


if __name__ == "__main__":
    main()
