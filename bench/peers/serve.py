#!/usr/bin/env python3
"""`nibble serve` and llama.cpp's server (package xllamacpp) under the same load, in turn.

    serve.py NIBBLE MODEL.gguf [--clients 32] [--seconds 60] [--rounds 1] [--parallel 16] [--threads 2] [--tokens 64]
             [--burst 1000] [--json]

So many clients ask one chat after the other, each another question, greedily. Printed: tokens per second that were
generated, requests, errors, the median and the 95th percentile of a request's seconds, and the resident memory after each
quarter of the time. llama.cpp's server runs with both ways of waiting, and its better one counts. --burst: then so many clients ask nibble at once; those beyond its queue are to get 503
at once, and the rest an answer.
"""
import argparse
import asyncio
import collections
import json
import os
import statistics
import subprocess
import sys
import time

TOPICS = "rivers bread trains glass bees wool ships bridges paper salt clocks tides iron maps kites drums".split()
SYSTEM = "You are a patient teacher. Answer in plain words, in a few sentences, and give one example."


async def post(port, body, timeout=600):
    """Status and body of one request on a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        data = json.dumps(body).encode()
        writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                     b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(data) + data)
        await writer.drain()
        reply = await asyncio.wait_for(reader.read(), timeout)
    finally:
        writer.close()
    head, _, text = reply.partition(b"\r\n\r\n")
    return int(head.split()[1]), text


def question(number, tokens):
    text = f"What should one know about {TOPICS[number % len(TOPICS)]}? Begin with point {number}."
    return {"messages": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": text}], "max_tokens": tokens,
            "temperature": 0}


class Server:
    def __init__(self, command, **environment):
        self.process = subprocess.Popen([str(c) for c in command], env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                        text=True)
        self.port = int(self.process.stdout.readline().strip().rstrip("/").rsplit(":", 1)[1])

    def resident(self):
        with open(f"/proc/{self.process.pid}/statm") as numbers:
            return int(numbers.read().split()[1]) * os.sysconf("SC_PAGESIZE")

    def end(self):
        self.process.terminate()
        self.process.wait()


async def load(server, arguments):
    end = time.monotonic() + arguments.seconds
    taken, tokens, errors, resident = [], 0, collections.Counter(), []
    numbers = iter(range(1 << 30))

    async def client():
        nonlocal tokens
        while time.monotonic() < end:
            begin = time.monotonic()
            try:
                status, text = await post(server.port, question(next(numbers), arguments.tokens))
            except (OSError, asyncio.TimeoutError, IndexError) as failed:
                errors[type(failed).__name__] += 1
                continue
            if status != 200:
                errors[status] += 1
                continue
            # What came after the end does not count: it ran with fewer and fewer others.
            if time.monotonic() <= end:
                tokens += json.loads(text)["usage"]["completion_tokens"]
                taken.append(time.monotonic() - begin)

    async def watch():
        for quarter in range(4):
            await asyncio.sleep(arguments.seconds / 4)
            resident.append(server.resident())

    await asyncio.gather(watch(), *(client() for _ in range(arguments.clients)))
    return {"tokens_per_second": tokens / arguments.seconds, "requests": len(taken), "errors": dict(errors),
            "seconds_median": statistics.median(taken), "seconds_95": statistics.quantiles(taken, n=20)[-1],
            "resident": resident}


async def burst(server, count):
    async def one(number):
        begin = time.monotonic()
        try:
            status = (await post(server.port, question(number, 8)))[0]
        except (OSError, IndexError) as failed:
            status = type(failed).__name__
        return status, time.monotonic() - begin

    found = await asyncio.gather(*(one(i) for i in range(count)))
    refused = [seconds for status, seconds in found if status == 503]
    return {"clients": count, "answers": dict(collections.Counter(str(status) for status, _ in found)),
            "refused_seconds_max": max(refused, default=0)}


def peer(arguments):
    import xllamacpp

    options = xllamacpp.CommonParams()
    options.model.path, options.n_parallel = arguments.model, arguments.parallel
    options.n_ctx = 512 * arguments.parallel
    options.cpuparams.n_threads = options.cpuparams_batch.n_threads = arguments.threads
    server = xllamacpp.Server(options)
    print(server.listening_address, flush=True)
    while True:
        time.sleep(3600)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nibble"), parser.add_argument("model")
    for name, value in dict(clients=32, seconds=60, rounds=1, parallel=16, threads=2, tokens=64, burst=0).items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--json", action="store_true"), parser.add_argument("--peer", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peer:
        return peer(arguments)
    shared = ["--parallel", arguments.parallel, "--threads", arguments.threads]
    theirs = [sys.executable, __file__, arguments.nibble, arguments.model, "--peer", *shared]
    servers = {"nibble": ([arguments.nibble, "serve", arguments.model, "--port", 0, "--ctx", 512, "--queue", 64, *shared], {}),
               "llama.cpp": (theirs, {}),
               "llama.cpp, passive": (theirs, {"OMP_WAIT_POLICY": "passive"})}
    rows = []
    for _ in range(arguments.rounds):
        for name, (command, environment) in servers.items():
            server = Server(command, **environment)
            try:
                asyncio.run(post(server.port, question(0, 4)))
                rows.append({"server": name, **asyncio.run(load(server, arguments))})
                print(rows[-1], file=sys.stderr, flush=True)
                if name == "nibble" and arguments.burst:
                    rows[-1]["burst"] = asyncio.run(burst(server, arguments.burst))
                    print(rows[-1]["burst"], file=sys.stderr, flush=True)
            finally:
                server.end()
    speed = {name: statistics.median(r["tokens_per_second"] for r in rows if r["server"] == name) for name in servers}
    ratio = speed["nibble"] / max(value for name, value in speed.items() if name != "nibble")
    if arguments.json:
        print(json.dumps({"rows": rows, "ratio": ratio}))
    else:
        print("tokens per second: " + ", ".join(f"{name} {value:.1f}" for name, value in speed.items()) + f"; ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
