#!/usr/bin/env python3
"""level_test.py KIND LEVEL: the checkpoint at one level loads in stock llama.cpp and continues five prompts greedily with
the tokens that nibble picks, on at least four of five for 16 tokens, ties apart.

Both programs round activations to 8 bits, and a value near the middle between two codes falls to either side with the
order of a sum. Stock llama.cpp's own rounding costs a Q8_0 file of this model 0.0046 - 0.0026 = 0.002 nats of KL
divergence, a Q4_K_M file 0.2041 - 0.1972 = 0.007. For logits off by independent errors of standard deviation s the
divergence is about s^2 / 2, so s is up to 0.12; the lead of one token over another in two programs then differs by
s * sqrt(2 * 2) = 0.24, and a lead below twice that is a tie. Every parting is printed, and how many were alike in all
tokens.
"""
import pathlib
import sys

import common
import llama

PROMPTS = ["The capital of France is", "To change the tyre of a bicycle, first", "def fibonacci(n):\n    ",
           "Once upon a time there was a", "Water boils at a lower temperature on a mountain because"]
TOKENS, AGREEING, TIE = 16, 4, 0.48


def main():
    kind, level = sys.argv[1:]
    source = common.model(kind)
    checks = common.Checks()
    with common.scratch() as folder:
        file = pathlib.Path(folder) / "model.gguf"
        report = common.nibble_json("quantize", source, "-o", file, "--to", level, "--recipe", "nearest", "--threads", 1)
        checks.equal("bytes", report["bytes"], file.stat().st_size)
        agreeing, alike = 0, 0
        with llama.Model(file, threads=1) as stock:
            for prompt in PROMPTS:
                ours = common.nibble_json("run", file, "-p", prompt, "-n", TOKENS, "--temp", 0, "--threads", 1)["tokens"]
                theirs, leads = stock.greedy(stock.tokenize(prompt, parse_special=True), TOKENS)
                theirs = theirs[:len(ours)] if len(ours) < TOKENS else theirs  # nibble stops at the end of the text
                apart = next((i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b), None)
                alike += apart is None
                agreeing += apart is None or leads[apart] < TIE
                if apart is not None:
                    print(f"{prompt!r}: token {apart}: {ours[apart]}, stock {theirs[apart]} with a lead of {leads[apart]:.4f}")
        print(f"{level}: {report['bits_per_weight']:.3f} bits a weight, {agreeing} of {len(PROMPTS)} prompts agree, {alike} in all tokens")
        if agreeing < AGREEING:
            checks.wrong.append(f"{agreeing} of {len(PROMPTS)} prompts agree, at least {AGREEING} wanted")
    checks.finish()


if __name__ == "__main__":
    main()
