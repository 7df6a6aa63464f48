"""nibble serve on a small random checkpoint: answers, errors, clients that vanish or dawdle, a full queue, the end.

    serve_test.py 'PROGRAM'
"""
import base64
import concurrent.futures
import hashlib
import http.client
import json
import pathlib
import random
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import checkpoint

TEMPLATE = ("{% if tools %}[{{ tools[0].function.name }}]{% endif %}"
            "{% for m in messages %}{{ m.role }}:{{ m.content }};{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}")
LONG = 400  # tokens that take a while


class Server:
    """A running server; requests to it."""

    def __init__(self, program, folder, *options):
        command = [*shlex.split(program), "serve", str(folder), "--name", f"again={folder}", "--port", "0", "--ctx", "512", *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.port = int(self.process.stdout.readline().rsplit(":", 1)[1])

    def __enter__(self):
        return self

    def __exit__(self, failed, *_):
        """A test that passed has a server that ends well: under sanitizers, one that has lost nothing."""
        self.process.stdout.close()
        if self.process.poll() is not None:
            return
        if failed:
            self.process.kill()
            self.process.wait()
        else:
            self.process.terminate()
            assert self.process.wait(60) == 0

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)

    def request(self, path, body=None, headers={}, method=None):
        """Status, headers, body."""
        connection = self.connect()
        data = body if isinstance(body, (bytes, type(None))) else json.dumps(body)
        connection.request(method or ("GET" if body is None else "POST"), path, data, headers)
        reply = connection.getresponse()
        out = reply.status, reply.headers, reply.read()
        connection.close()
        return out

    def json(self, path, body=None, status=200, **more):
        found, _, text = self.request(path, body, **more)
        assert found == status, f"{path}: {found}, expected {status}: {text[:300]}"
        return json.loads(text)

    def events(self, path, body):
        """The documents of a stream of server-sent events; the last one must be [DONE]."""
        status, headers, text = self.request(path, {**body, "stream": True})
        assert status == 200 and headers["Content-Type"] == "text/event-stream", (status, text)
        lines = text.decode().split("\n\n")
        assert lines[-1] == "" and lines[-2] == "data: [DONE]", lines[-3:]
        return [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]

    def metric(self, name):
        text = self.request("/metrics")[2].decode()
        return sum(float(value) for value in re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, re.M))

    def wait_idle(self):
        for _ in range(600):
            if self.metric("nibble_sequences_active") == 0:
                return
            time.sleep(0.05)
        raise AssertionError("a sequence is still active")


def greedy(text, tokens=20, **more):
    return {"prompt": text, "max_tokens": tokens, "temperature": 0, **more}


def same_as_run(program, folder, server):
    """Greedy answers are those of `nibble run`, alone and beside others, with the prompt in the cache and not."""
    texts = {}
    for prompt in ("the model", "reads and writes small numbers of every kind while the weights become smaller", "x"):
        done = subprocess.run([*shlex.split(program), "run", str(folder), "-p", prompt, "-n", "40", "--ctx", "512", "--json"],
                              capture_output=True, check=True)
        texts[prompt] = json.loads(done.stdout)["text"]
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        jobs = [(p, pool.submit(server.json, "/v1/completions", greedy(p, 40))) for p in [*texts] * 4]
    for prompt, job in jobs:
        choice = job.result()["choices"][0]
        assert choice["text"] == texts[prompt], (prompt, choice["text"], texts[prompt])
    assert server.metric("nibble_prompt_tokens_reused_total") > 0


def completions(server):
    whole = server.json("/v1/completions", greedy("the", n=2, logprobs=3))
    assert len(whole["choices"]) == 2 and whole["usage"]["completion_tokens"] == 40, whole
    assert whole["choices"][0]["text"] == whole["choices"][1]["text"]
    scores = whole["choices"][0]["logprobs"]
    assert len(scores["tokens"]) == 20 and all(len(top) == 3 for top in scores["top_logprobs"])
    assert all(max(top.values()) == own <= 0 for top, own in zip(scores["top_logprobs"], scores["token_logprobs"]))
    chunks = server.events("/v1/completions", greedy("the", stream_options={"include_usage": True}))
    assert "".join(c["choices"][0]["text"] for c in chunks if c["choices"]) == whole["choices"][0]["text"]
    assert chunks[-1]["usage"]["completion_tokens"] == 20 and chunks[-2]["choices"][0]["finish_reason"] == "length"

    # Pages of 32 tokens of a prompt that was read before are not read again.
    again = greedy("numbers of every kind " * 4, 1, stream_options={"include_usage": True})
    server.json("/v1/completions", again)
    for usage in (server.json("/v1/completions", again)["usage"], server.events("/v1/completions", again)[-1]["usage"]):
        assert usage["prompt_tokens_details"]["cached_tokens"] >= 64, usage

    # A stop string that spans tokens (which are single characters here) ends the text before it.
    text = whole["choices"][0]["text"]
    stop = text[7:10]
    cut = server.json("/v1/completions", greedy("the", stop=[stop, "never there"]))["choices"][0]
    assert cut["text"] == text[:text.index(stop)] and cut["finish_reason"] == "stop", cut
    chunks = server.events("/v1/completions", greedy("the", stop=stop))
    assert "".join(c["choices"][0]["text"] for c in chunks) == cut["text"]

    drawn = [server.json("/v1/completions", {"prompt": "the", "max_tokens": 30, "seed": s})["choices"][0]["text"] for s in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2], drawn
    # A bias of 100 decides; id 34 is the character "B".
    assert server.json("/v1/completions", greedy("the", 5, logit_bias={"34": 100}))["choices"][0]["text"] == "BBBBB"
    varied = server.json("/v1/completions", greedy("the", 30, frequency_penalty=2, presence_penalty=2))["choices"][0]["text"]
    assert len(set(varied)) > len(set(server.json("/v1/completions", greedy("the", 30))["choices"][0]["text"])), varied


def chat(server):
    ask = {"messages": [{"role": "system", "content": "a"}, {"role": "user", "content": [{"type": "text", "text": "b"}]}],
           "max_tokens": 12, "temperature": 0}
    whole = server.json("/v1/chat/completions", {**ask, "logprobs": True, "top_logprobs": 2})
    choice = whole["choices"][0]
    assert choice["message"]["role"] == "assistant" and choice["finish_reason"] == "length", whole
    assert len(choice["logprobs"]["content"]) == 12 and len(choice["logprobs"]["content"][0]["top_logprobs"]) == 2
    prompt = "system:a;user:b;assistant:"
    assert whole["usage"]["prompt_tokens"] == len(prompt), whole["usage"]
    assert server.json("/v1/completions", greedy(prompt, 12))["choices"][0]["text"] == choice["message"]["content"]
    chunks = server.events("/v1/chat/completions", ask)
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert "".join(c["choices"][0]["delta"].get("content", "") for c in chunks) == choice["message"]["content"]
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    with_tool = server.json("/v1/chat/completions", {**ask, "tools": [tool]})
    assert with_tool["usage"]["prompt_tokens"] == len(prompt) + len("[weather]")


SCHEMA = {"type": "object", "additionalProperties": False, "required": ["zebra", "count", "apple"],
          "properties": {"zebra": {"enum": ["red", "green"]}, "count": {"type": "integer", "minimum": 10, "maximum": 99},
                         "apple": {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 3}}}


def follows(text):
    value = json.loads(text)
    assert list(value) == ["zebra", "count", "apple"], text  # in the schema's order
    assert value["zebra"] in ("red", "green") and 10 <= value["count"] <= 99 and type(value["count"]) is int, text
    assert 1 <= len(value["apple"]) <= 3 and all(type(x) is bool for x in value["apple"]), text


def constrained(server, name):
    """What random weights write follows a schema none the less, and is a call where one is wanted."""
    ask = {"messages": [{"role": "user", "content": "b"}], "max_tokens": 400}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA, "strict": True}}
    for temperature in (0, 1, 3):
        choices = server.json("/v1/chat/completions", {**ask, "n": 3, "seed": 5, "temperature": temperature, "response_format": form})["choices"]
        for choice in choices:
            assert choice["finish_reason"] == "stop", choice
            follows(choice["message"]["content"])
    assert len({c["message"]["content"] for c in choices}) > 1
    chunks = server.events("/v1/completions", {"prompt": "a", "max_tokens": 400, "seed": 1, "response_format": form})
    follows("".join(c["choices"][0]["text"] for c in chunks))
    whole = server.json("/api/chat", {"model": name, "stream": False, "format": SCHEMA, "messages": ask["messages"]})
    follows(whole["message"]["content"])
    # Nobody invents properties, unless several schemas speak of one object.
    part = {name: {"type": "object", "properties": {name: {"type": "boolean"}}, "required": [name]} for name in "ab"}
    def written(schema):
        form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
        found = server.json("/v1/chat/completions", {**ask, "n": 8, "seed": 4, "temperature": 3, "response_format": form})
        return [choice["message"]["content"] for choice in found["choices"]]
    for text in written({"type": "array", "items": part["a"], "minItems": 2, "maxItems": 2}):
        assert [set(each) for each in json.loads(text)] == [{"a"}, {"a"}], text
    for text in written({**part["a"], "anyOf": [part["b"]]}):
        assert '"a"' in text and '"b"' in text, text
    for path, more in (("/v1/chat/completions", {**ask, "response_format": {"type": "json_object"}, "logit_bias": {"93": 100}}),):
        text = server.json(path, more)["choices"][0]["message"]["content"]
        assert json.loads(text) == {}, text  # id 93 is "}", which ends the object at once

    tools = [{"type": "function", "function": {"name": n, "parameters": SCHEMA}} for n in ("first", "second")]
    for choice, names in (("required", ("first", "second")), ({"type": "function", "function": {"name": "second"}}, ("second",))):
        answer = server.json("/v1/chat/completions", {**ask, "tools": tools, "tool_choice": choice})["choices"][0]
        call = answer["message"]["tool_calls"][0]["function"]
        assert answer["finish_reason"] == "tool_calls" and call["name"] in names, answer
        assert json.loads(call["arguments"]).keys() == SCHEMA["properties"].keys()
    none = {"type": "function", "function": {"name": "third"}}
    for more, said in (({"tool_choice": "required"}, "no tools"), ({"tools": tools, "tool_choice": none}, "'third'"),
                       ({"tools": [{}], "tool_choice": "required"}, "tools[0]"), ({"tool_choice": 3, "tools": tools}, "tool_choice"),
                       ({"tools": tools, "tool_choice": "required", "response_format": form}, "different answers"),
                       ({"response_format": {"type": "xml"}}, "json_schema"), ({"response_format": 3}, "response_format"),
                       ({"response_format": {"type": "json_schema"}}, "'response_format'"),
                       ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "whatever"}}}}, "whatever"),
                       ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"$ref": "#/none"}}}}, "none")):
        error = server.json("/v1/chat/completions", {**ask, **more}, 400)["error"]["message"]
        assert said in error and len(error) < 500, error
    assert "'format'" in server.json("/api/chat", {"model": name, "format": 3, "messages": ask["messages"]}, 400)["error"]


def ollama(server, name):
    ask = {"model": name + ":latest", "options": {"temperature": 0, "num_predict": 9, "repeat_penalty": 1}}
    message = [{"role": "user", "content": "b"}]
    whole = server.json("/api/chat", {**ask, "messages": message, "stream": False})
    assert whole["done"] and whole["done_reason"] == "length" and whole["eval_count"] == 9, whole
    status, headers, text = server.request("/api/chat", {**ask, "messages": message})
    lines = [json.loads(line) for line in text.decode().splitlines()]
    assert headers["Content-Type"] == "application/x-ndjson" and [l["done"] for l in lines].count(True) == 1 and lines[-1]["done"]
    assert "".join(l["message"]["content"] for l in lines) == whole["message"]["content"]
    assert server.json("/api/generate", {**ask, "prompt": "b", "stream": False})["response"] == whole["message"]["content"]
    raw = server.json("/api/generate", {**ask, "prompt": "user:b;assistant:", "raw": True, "stream": False})
    assert raw["response"] == whole["message"]["content"]
    assert server.json("/api/generate", {"model": name})["done_reason"] == "load"
    assert [m["name"] for m in server.json("/api/tags")["models"]] == [name, "again"]
    assert server.json("/api/show", {"model": name})["details"]["family"] == "llama"
    assert "embedding" in server.json("/api/show", {"model": name})["capabilities"]
    for field in ({"images": ["aGk="]}, {"suffix": "x"}):
        assert [*field][0] in server.json("/api/generate", {**ask, "prompt": "b", **field}, 400)["error"]
    assert "images" in server.json("/api/chat", {**ask, "messages": [{**message[0], "images": ["aGk="]}]}, 400)["error"]
    assert name in [m["name"] for m in server.json("/api/ps")["models"]]
    assert "version" in server.json("/api/version")
    assert "not found" in server.json("/api/chat", {"model": "none", "messages": message}, 404)["error"]
    several = server.json("/api/embed", {"model": name, "input": ["one", "two"]})["embeddings"]
    assert len(several) == 2 and several[0] == server.json("/api/embeddings", {"model": name, "prompt": "one"})["embedding"]
    server.json("/api/generate", {"model": "again", "keep_alive": 0})
    assert "again" not in [m["name"] for m in server.json("/api/ps")["models"]]


def embeddings(server):
    found = server.json("/v1/embeddings", {"input": ["one", "two", "one"]})["data"]
    vectors = [e["embedding"] for e in found]
    assert vectors[0] == vectors[2] != vectors[1] and len(vectors[0]) == checkpoint.WIDTH
    assert all(abs(sum(x * x for x in v) - 1) < 1e-5 for v in vectors)


def errors(server, folder):
    for path, body, status, said in [
            ("/v1/completions", b"{", 400, "not valid JSON"), ("/v1/completions", b"[" * 100000, 400, "not valid JSON"),
            ("/v1/completions", b'{"prompt": "\xff"}', 400, "UTF-8"), ("/v1/completions", {}, 400, "'prompt' is missing"),
            ("/v1/completions", {"prompt": "a", "temperature": -1}, 400, "temperature"),
            ("/v1/completions", {"prompt": "a", "max_tokens": 1.5}, 400, "max_tokens"),
            ("/v1/completions", {"prompt": "a", "n": 10**30}, 400, "'n'"), ("/v1/completions", {"prompt": [10**6]}, 400, "prompt"),
            ("/v1/completions", {"prompt": "a", "stop": [""]}, 400, "stop"), ("/v1/completions", {"prompt": "a" * 600}, 400, "512"),
            ("/v1/completions", {"prompt": "a", "logit_bias": {"x": 1}}, 400, "logit_bias"),
            ("/v1/completions", {"prompt": "a", "model": "none"}, 404, "no model"),
            ("/v1/chat/completions", {"messages": []}, 400, "messages"), ("/v1/chat/completions", {"messages": [1]}, 400, "messages[0]"),
            ("/v1/chat/completions", {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, "image_url"),
            ("/v1/embeddings", {"input": []}, 400, "input"), ("/v1/nothing", {}, 404, "/v1/nothing"),
            ("/v1/completions", b"x" * (9 << 20), 413, "too large")]:
        error = server.json(path, body, status)["error"]
        assert said in error["message"] and error["type"] == "invalid_request_error", error
        assert str(folder) not in json.dumps(error)
    for host, status in (("localhost:1", 200), ("[::1]:1", 200), ("proxy.example", 200), ("evil.example:80", 403), ("127.evil.example.org", 403)):
        assert server.request("/v1/models", headers={"Host": host})[0] == status, host
    models = server.request("/v1/models")[2].decode() + server.request("/api/tags")[2].decode()
    assert str(folder.parent) not in models
    for raw in (b"\x00\xff\n\n", b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"A: b\r\n" * 20000 + b"\r\n", b"POST /v1/completions HTTP/1.1\r\nContent-Length: -1\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as client:
            try:
                client.sendall(raw)
                client.shutdown(socket.SHUT_WR)
                assert not client.recv(100).startswith(b"HTTP/1.1 200")
            except TimeoutError:
                raise
            except OSError:  # the server may have hung up at any of these moments
                pass
    assert server.json("/health") == {"status": "ok"}


def vanishing_clients(server):
    """Slots come free when their clients go, in streams and in whole answers."""
    for stream in (True, False):
        for _ in range(6):
            connection = server.connect()
            connection.request("POST", "/v1/completions", json.dumps(greedy("the", LONG, stream=stream, logit_bias={"0": -100})))
            if stream:
                connection.getresponse().read(50)
            connection.sock.close()
    server.wait_idle()
    server.json("/v1/completions", greedy("the", 3))


def slow_reader(server):
    """One who does not read does not keep others waiting, and gets everything in the end."""
    body = json.dumps(greedy("the", LONG, stream=True, logprobs=20, logit_bias={"0": -100})).encode()
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        for _ in range(5):
            server.json("/v1/completions", greedy("the", 5))
        server.wait_idle()
        text = b""
        while piece := client.recv(65536):
            text += piece
        assert b"[DONE]" in text


def page(server):
    """One document whose script and style are those that its policy lets run; sent again only when it has changed."""
    status, headers, text = server.request("/")
    assert status == 200 and headers["Content-Type"] == "text/html; charset=utf-8"
    for tag, begin in (("script", b'<script type="module">'), ("style", b"<style>")):
        assert text.count(begin) == text.count(b"<" + tag.encode()) == 1
        inside = text.split(begin)[1].split(b"</" + tag.encode())[0]
        expected = base64.b64encode(hashlib.sha256(inside).digest()).decode()
        assert f"{tag}-src 'sha256-{expected}'" in headers["Content-Security-Policy"]
    assert "default-src 'none'" in headers["Content-Security-Policy"] and headers["X-Content-Type-Options"] == "nosniff"
    for etag, expected in ((headers["ETag"], 304), (f'"other", W/{headers["ETag"]}', 304), ('"other"', 200)):
        status, again, body = server.request("/", headers={"If-None-Match": etag})
        assert status == expected and again["ETag"] == headers["ETag"] and body == (b"" if status == 304 else text)
    status, head, body = server.request("/", method="HEAD")
    assert status == 200 and head["Content-Length"] == str(len(text)) and body == b""
    assert server.request("/", {})[0] == 404


def disagreement(server, name):
    """Probabilities are those of completions, over several pages of the cache; a model agrees with itself."""
    for prompt in ({"prompt": "the"}, {"messages": [{"role": "user", "content": "b"}]}):
        path = "/v1/completions" if "prompt" in prompt else "/v1/chat/completions"
        ask = {**prompt, "max_tokens": 110, "temperature": 0, "logit_bias": {"0": -100}, "logprobs": 1 if "prompt" in prompt else True}
        choice = server.json(path, ask)["choices"][0]
        text = choice.get("text") or choice["message"]["content"]
        scores = choice["logprobs"].get("token_logprobs") or [t["logprob"] for t in choice["logprobs"]["content"]]
        compare = {**prompt, "model": name, "reference": "again", "text": text}
        whole = server.json("/nibble/compare", compare)
        assert "".join(t["text"] for t in whole["tokens"]) == text and len(whole["tokens"]) == 110
        for token, score in zip(whole["tokens"], scores):
            # Batches of other widths change no bit; the two sums of exponentials differ in their last digits.
            assert abs(token["logprob"] - score) < 1e-5 and token["logprob"] == token["reference_logprob"], (token, score)
            assert token["kld"] < 1e-6 and token["top"] == token["reference_top"]
        assert whole["same_top"] == 1 and whole["kld_max"] < 1e-6 and whole["perplexity"] == whole["reference_perplexity"]
        lines = [json.loads(line) for line in server.request("/nibble/compare", {**compare, "stream": True})[2].splitlines()]
        assert len(lines) > 3 and [t for line in lines for t in line["tokens"]] == whole["tokens"] and lines[-1]["kld_mean"] == whole["kld_mean"]
    ids = server.json("/nibble/compare", {"prompt": "the", "model": name, "reference": name, "tokens": [34, 34]})
    assert [t["text"] for t in ids["tokens"]] == ["B", "B"]
    fine = {"prompt": "the", "model": name, "reference": "again", "text": "x"}
    for body, said in [
            (b"{", "not valid JSON"), ([], "no JSON object"), ({}, "'reference' is missing"), ({**fine, "model": "none"}, "'model': there is no model"),
            ({**fine, "model": 7}, "'model'"), ({**fine, "reference": None}, "'reference'"), ({**fine, "text": ""}, "'text'"),
            ({**fine, "text": ["a"]}, "'text'"), ({**fine, "text": "a" * 600}, "512"), ({**fine, "tokens": [10**6]}, "tokens"),
            ({**fine, "tokens": [-1]}, "tokens"), ({**fine, "messages": 3}, "messages"), ({**fine, "prompt": {}}, "'prompt'"),
            ({**fine, "prompt": ""}, "the prompt is empty"), ({**fine, "stream": 1}, "'stream'")]:
        error = server.json("/nibble/compare", body, 400)["error"]
        assert said in error["message"] and error["type"] == "invalid_request_error", error
    server.json("/nibble/compare", b"x" * (9 << 20), 413)


def advice(server, folder):
    told = server.json("/nibble/advise", {"model": "again", "measure_speed": False, "context": 64, "for": "code"})
    assert (told["source"], told["context"], told["for"]) == ("again", 64, "code"), told
    assert told["recommended"] in [level["level"] for level in told["levels"] if level["fits"]]
    tight = server.json("/nibble/advise", {"memory_bytes": 1000, "measure_speed": False})
    assert "recommended" not in tight and not any(level["fits"] for level in tight["levels"])
    assert str(folder.parent) not in json.dumps([told, tight])
    for body, said in [(b"", "not valid JSON"), ({"model": "none"}, "no model"), ({"model": []}, "'model'"), ({"for": "fun"}, "'for'"),
                       ({"context": 0}, "'context'"), ({"context": 2**40}, "'context'"), ({"memory_bytes": -1}, "'memory_bytes'"),
                       ({"measure_speed": "no"}, "'measure_speed'")]:
        assert said in server.json("/nibble/advise", body, 400)["error"]["message"], body


def status(server, name):
    found = server.json("/nibble/status")
    first, second = found["models"]
    assert (first["name"], second["name"], first["loaded"], first["chat"]) == (name, "again", True, True), found
    assert 1e6 < found["resident_bytes"] < found["machine_bytes"] and first["memory_bytes"] > first["file_bytes"] > 0
    server.json("/v1/completions", greedy("the", 100, logit_bias={"0": -100}))
    assert server.json("/nibble/status")["models"][0]["tokens_per_second"] > 10  # of at least 100 in the last five seconds


def guesses(program, folder, server):
    """With guesses answers are the same to the last digit of a probability, in fewer passes over the weights."""
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA, "strict": True}}
    asks = [greedy("the", 480, logit_bias={"0": -100}), greedy("b", 90, logprobs=2, n=3, frequency_penalty=0.3),
            greedy("reads and writes small numbers " * 4, 60, stop=["zz", "e e"]),
            {"prompt": "numbers of every kind", "max_tokens": 70, "temperature": 0.6, "seed": 3, "n": 2},
            {"prompt": "a", "max_tokens": 300, "temperature": 1, "seed": 1, "response_format": form}]
    with Server(program, folder, "--parallel", "5", "--lookup") as guessing:
        with concurrent.futures.ThreadPoolExecutor(len(asks)) as pool:
            answers = list(pool.map(lambda ask: guessing.json("/v1/completions", ask), asks))
        for ask, answer in zip(asks, answers):
            for field in ("choices", "usage"):
                plain = server.json("/v1/completions", ask)[field]
                if field == "usage":
                    plain["prompt_tokens_details"] = answer[field]["prompt_tokens_details"]
                assert answer[field] == plain, (ask, answer[field], plain)
        guessing.wait_idle()
        before = guessing.metric("nibble_steps_total")
        chunks = guessing.events("/v1/completions", {**asks[0], "max_tokens": 100})
        assert "".join(c["choices"][0]["text"] for c in chunks) == answers[0]["choices"][0]["text"][:100]
        assert guessing.metric("nibble_steps_total") - before < 50  # random weights soon say the same again and again
        assert guessing.metric("nibble_generated_tokens_total") == sum(a["usage"]["completion_tokens"] for a in answers) + 100


def full_queue(program, folder):
    with Server(program, folder, "--parallel", "1", "--queue", "2") as server:
        def ask(_):
            status, headers, text = server.request("/v1/completions", greedy("the", LONG, logit_bias={"0": -100}))
            return status, headers["Retry-After"], time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(24) as pool:
            done = list(pool.map(ask, range(24)))
        fine = [end for status, _, end in done if status == 200]
        refused = [(retry, end) for status, retry, end in done if status == 503]
        assert len(fine) + len(refused) == 24 and len(fine) >= 3 and refused, done
        assert all(retry == "1" for retry, _ in refused) and min(end for _, end in refused) < min(fine)


def end(program, folder):
    """SIGTERM: what is under way is finished, what is new is refused. A second one ends at once."""
    ask = greedy("the", LONG, logit_bias={"0": -100}, n=4)
    with Server(program, folder, "--parallel", "1") as server:
        found = {}
        client = threading.Thread(target=lambda: found.update(server.json("/v1/completions", ask)))
        client.start()
        while server.metric("nibble_sequences_active") == 0:
            time.sleep(0.01)
        server.process.send_signal(signal.SIGTERM)
        statuses = set()
        while not found and server.process.poll() is None:
            try:
                statuses.add(server.request("/ready")[0])
            except (ConnectionError, http.client.HTTPException):
                break
        client.join()
        assert 503 in statuses and len(found["choices"]) == 4, (statuses, found)
        assert server.process.wait(30) == 0
    with Server(program, folder, "--parallel", "1") as server:
        client = server.connect()
        client.request("POST", "/v1/completions", json.dumps({**ask, "n": 16}))
        while server.metric("nibble_sequences_active") == 0:
            time.sleep(0.01)
        server.process.send_signal(signal.SIGTERM)
        while server.request("/ready")[0] != 503:
            time.sleep(0.01)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(10) != 0


def keys(program, folder):
    with Server(program, folder, "--api-key", "secret") as server:
        for key in ("", "Bearer wrong1", "secret"):
            for path in ("/v1/models", "/nibble/status", "/nibble/compare", "/nibble/advise"):
                error = server.json(path, status=401, headers={"Authorization": key})["error"]
                assert error["type"] == "authentication_error"
        server.json("/v1/models", headers={"Authorization": "Bearer secret"})
        server.json("/health")
        assert server.request("/")[0] == 200


def memory(program, folder):
    """Two models do not fit: each is loaded when it is asked for, and the other leaves."""
    with Server(program, folder, "--parallel", "1", "--memory", "6MB") as server:
        for name in (folder.name, "again", folder.name):
            server.json("/v1/completions", greedy("the", 3, model=name))
            assert [m["name"] for m in server.json("/api/ps")["models"]] == [name]


def main():
    program = sys.argv[1]
    with tempfile.TemporaryDirectory() as root:
        folder = pathlib.Path(root) / "tiny"
        folder.mkdir()
        checkpoint.write(folder, random.Random(3))
        (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": TEMPLATE, "eos_token": "<s>"}))
        with Server(program, folder, "--parallel", "5", "--allow-host", "proxy.example") as server:
            same_as_run(program, folder, server)
            completions(server)
            chat(server)
            constrained(server, folder.name)
            ollama(server, folder.name)
            embeddings(server)
            page(server)
            disagreement(server, folder.name)
            advice(server, folder)
            status(server, folder.name)
            errors(server, folder)
            guesses(program, folder, server)
            vanishing_clients(server)
            slow_reader(server)
        full_queue(program, folder)
        end(program, folder)
        keys(program, folder)
        memory(program, folder)


if __name__ == "__main__":
    main()
