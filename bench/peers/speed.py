#!/usr/bin/env python3
"""Prefill and decode speed of GGUF files: nibble, stock llama.cpp and ik_llama.cpp, in turn on the same file.

    speed.py NIBBLE LLAMA_BENCH MODEL.gguf ... [--prompt 512] [--tokens 64] [--batch 16] [--threads 2] [--rounds 5] [--json]

LLAMA_BENCH is llama.cpp's llama-bench. ik_llama.cpp runs in a process of its own if the package ik-llama-cpp-python can be
imported. --batch: so many sequences decode together too, against llama-batched-bench, which lies beside llama-bench.
Every round runs each program once, the peers with OpenMP's default way of waiting and with OMP_WAIT_POLICY=passive; what was
behind the best peer by 15% in the first round is left out of the others.
`peer` is the one (with its way of waiting) whose median over the rounds is best, `best_peer` that median, and `ratio` the median over
rounds of ours / that peer in the same round: taking the best of several noisy runs in each round would favour the peers.
`limit_share`, measured in every round: of decode, the bytes of weights read a second, relative to what all threads together read of
plain memory; of prefill and batch, the operations a second, 2 a weight and token, relative to what they reach in registers with
8-bit codes (F16 and BF16 are multiplied as bf16 or float32: `limits` has that peak too).
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

BATCH_PROMPT = 16  # tokens that each sequence of a batch has in its cache already
BEHIND = 1.15  # peers that the best of the first round beats by this are left out


def output_of(command, **environment):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, env={**os.environ, **environment})
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stderr[-2000:]}")
    return done.stdout


def run(command, **environment):
    text = output_of(command, **environment)
    return json.JSONDecoder().raw_decode(text[min(i for i in map(text.find, "[{") if i >= 0):])[0]


def ours(arguments, model):
    batch = ["--batch", arguments.batch, "--ctx", BATCH_PROMPT] if arguments.batch else []
    found = run([arguments.nibble, "bench", model, "-p", arguments.prompt, "-n", arguments.tokens, "-r", 1, "--threads",
                 arguments.threads, "--json", *batch])
    return {"prefill": found["prefill_tokens_per_second"], "decode": found["decode_tokens_per_second"],
            "batch": found["decodes"][-1]["tokens_per_second"] if batch else None,
            "bandwidth": found["machine"]["bytes_per_second"], "peak": found["machine"]["int8_operations_per_second"],
            "bf16_peak": found["machine"]["bf16_operations_per_second"],
            "bytes": found["read_bytes"], "products": found["products"]}


def stock(arguments, model, kinds, **environment):
    common = ["-m", model, "-t", arguments.threads]
    found = {}
    alone = [kind for kind in ("prefill", "decode") if kind in kinds]
    if alone:
        rows = run([arguments.llama_bench, *common, "-p", arguments.prompt if "prefill" in alone else 0,
                    "-n", arguments.tokens if "decode" in alone else 0, "-r", 1, "-o", "json"], **environment)
        found |= {kind: row["avg_ts"] for kind, row in zip(alone, rows)}
    if "batch" in kinds:
        batched_bench = pathlib.Path(arguments.llama_bench).with_name("llama-batched-bench")
        found["batch"] = run([batched_bench, *common, "-c", (BATCH_PROMPT + arguments.tokens) * arguments.batch, "-npp", BATCH_PROMPT,
                              "-ntg", arguments.tokens, "-npl", arguments.batch, "--output-format", "jsonl"], **environment)["speed_tg"]
    return found


def ik(arguments, model, kinds, **environment):
    return run([sys.executable, __file__, "--ik", model, arguments.prompt, arguments.tokens, arguments.threads, *kinds], **environment)


def ik_worker(path, prompt, tokens, threads, kinds):
    import ctypes
    from ik_llama_cpp import _ctypes_api as api
    api.llama_backend_init()
    parameters = api.llama_model_default_params()
    parameters.repack_tensors = True
    parameters.use_mmap = False
    model = api.llama_model_load_from_file(path.encode(), parameters)
    settings = api.llama_context_default_params()
    settings.n_ctx = settings.n_batch = settings.n_ubatch = max(prompt, tokens) + 64
    settings.n_threads = settings.n_threads_batch = threads
    settings.flash_attn = True
    context = api.llama_init_from_model(model, settings)
    batch = api.llama_batch_init(prompt, 0, 1)

    def decode(count, first):
        batch.n_tokens = count
        for i in range(count):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = 100 + i % 1000, first + i, 1, i == count - 1
            batch.seq_id[i][0] = 0
        if api.llama_decode(context, batch):
            sys.exit("llama_decode failed")
        api.llama_get_logits_ith(context, count - 1)

    found = {}
    decode(min(prompt, 64), 0)  # warm
    if "prefill" in kinds:
        api.llama_kv_cache_clear(context)
        start = time.perf_counter()
        decode(prompt, 0)
        found["prefill"] = prompt / (time.perf_counter() - start)
    if "decode" in kinds:
        api.llama_kv_cache_clear(context)
        decode(1, 0)
        start = time.perf_counter()
        for i in range(tokens):
            decode(1, 1 + i)
        found["decode"] = tokens / (time.perf_counter() - start)
    print(json.dumps(found))


def peers():
    out = {"llama.cpp": (stock, {}), "llama.cpp, passive": (stock, {"OMP_WAIT_POLICY": "passive"})}
    try:
        import ik_llama_cpp  # noqa: F401
        out |= {"ik_llama.cpp": (ik, {}), "ik_llama.cpp, passive": (ik, {"OMP_WAIT_POLICY": "passive"})}
    except ImportError:
        print("ik-llama-cpp-python is not installed: stock llama.cpp only", file=sys.stderr)
    return out


def compare(arguments, model):
    pathlib.Path(model).read_bytes()  # into the page cache
    kinds = ["prefill", "decode"] + (["batch"] if arguments.batch else [])
    wanted = {name: kinds for name in peers()}
    rounds = []
    for _ in range(arguments.rounds):
        found = {"nibble": ours(arguments, model)}
        for name, (function, environment) in peers().items():
            if wanted[name]:
                found[name] = function(arguments, model, wanted[name], **environment)
        rounds.append(found)
        if len(rounds) == 1:
            best = {kind: max(found[name].get(kind, 0) for name in wanted) for kind in kinds}
            wanted = {name: [kind for kind in kinds if BEHIND * found[name].get(kind, 0) > best[kind]] for name in wanted}
    return [row(kind, model, rounds, [name for name in wanted if kind in wanted[name]]) for kind in kinds]


def row(kind, model, rounds, names):
    """A line of the table; `names` are the peers that were in every round."""
    medians = {name: statistics.median(each[name][kind] for each in rounds) for name in ["nibble", *names]}
    best = max(names, key=medians.get)
    per_token, limit = ("bytes", "bandwidth") if kind == "decode" else ("products", "peak")
    mine = [each["nibble"] for each in rounds]
    return {"kind": kind, "type": pathlib.Path(model).stem, "ours": medians["nibble"], "best_peer": medians[best], "peer": best,
            "ratio": statistics.median(each["nibble"][kind] / each[best][kind] for each in rounds),
            "limit_share": statistics.median(each[kind] * each[per_token] / each[limit] for each in mine),
            "limits": {name: statistics.median(each[name] for each in mine) for name in ("bandwidth", "peak", "bf16_peak")},
            "first_round": {name: values[kind] for name, values in rounds[0].items() if kind in values}, "all": medians}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nibble"), parser.add_argument("llama_bench"), parser.add_argument("models", nargs="+")
    for name, value in (("prompt", 512), ("tokens", 64), ("batch", 0), ("threads", 2), ("rounds", 5)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = []
    for model in arguments.models:
        for found in compare(arguments, model):
            rows.append(found)
            if not arguments.json:
                limit = f", {100 * found['limit_share']:.0f}% of the {'memory' if found['kind'] == 'decode' else 'arithmetic'}"
                print(f"{found['type']:24} {found['kind']:8} {found['ours']:8.1f} tokens/s, best peer {found['best_peer']:8.1f} "
                      f"({found['peer']}), ratio {found['ratio']:.2f}{limit}", flush=True)
    if arguments.json:
        print(json.dumps({"threads": arguments.threads, "rounds": arguments.rounds, "rows": rows}, indent=1))
    else:
        limits = {name: statistics.median(found["limits"][name] for found in rows) * 1e-9 for name in rows[0]["limits"]}
        print(f"memory {limits['bandwidth']:.1f} GB/s, int8 {limits['peak']:.0f} and bf16 {limits['bf16_peak']:.0f} Gop/s")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--ik"]:
        ik_worker(sys.argv[2], *map(int, sys.argv[3:6]), sys.argv[6:])
    else:
        main()
