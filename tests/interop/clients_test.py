"""The Python clients of OpenAI and Ollama against `nibble serve`: their own calls, and greedy answers as those of `nibble run`."""
import math
import subprocess
import typing

import common

try:
    import ollama
    import openai
    import pydantic
except ImportError as missing:
    common.skip(f"no package {missing.name} (make test installs it)")

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
TOOL = {"type": "function", "function": {"name": "weather", "description": "The weather of a city",
                                         "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}


class Colour(pydantic.BaseModel):
    name: typing.Literal["red", "green", "blue"]
    bright: bool


def start(model):
    process = subprocess.Popen([common.PROGRAM, "serve", "--name", f"small={model}", "--port", "0", "--ctx", "1024", "--api-key", "key"],
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return process, process.stdout.readline().strip()


def with_openai(url, model, checks):
    client = openai.OpenAI(base_url=url + "/v1", api_key="key", max_retries=0)
    checks.equal("models", [m.id for m in client.models.list()], ["small"])
    ran = common.nibble_json("run", model, "--chat", "-p", QUESTION[0]["content"], "-n", "24", "--ctx", "1024")
    ask = {"model": "small", "messages": QUESTION, "max_tokens": 24, "temperature": 0}
    whole = client.chat.completions.create(**ask, logprobs=True, top_logprobs=4)
    checks.equal("chat as run", whole.choices[0].message.content, ran["text"])
    checks.equal("usage", (whole.usage.prompt_tokens, whole.usage.completion_tokens), (ran["prompt_tokens"], len(ran["tokens"])))
    scores = whole.choices[0].logprobs.content
    checks.equal("logprobs", [s.top_logprobs[0].token for s in scores], [s.token for s in scores])
    checks.equal("probabilities", all(sum(math.exp(t.logprob) for t in s.top_logprobs) <= 1 + 1e-6 for s in scores), True)
    chunks = list(client.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True}))
    checks.equal("stream", "".join(c.choices[0].delta.content or "" for c in chunks if c.choices), ran["text"])
    checks.equal("stream's usage", chunks[-1].usage.completion_tokens, len(ran["tokens"]))
    checks.equal("n", len(client.chat.completions.create(**{**ask, "n": 3, "temperature": 1, "seed": 1}).choices), 3)
    checks.equal("tools", client.chat.completions.create(**ask, tools=[TOOL]).choices[0].message.role, "assistant")
    text = client.completions.create(model="small", prompt="The capital of France is", max_tokens=8, temperature=0)
    checks.equal("completion as run", text.choices[0].text,
                 common.nibble_json("run", model, "-p", "The capital of France is", "-n", "8", "--ctx", "1024")["text"])
    for form in ("float", "base64"):
        found = client.embeddings.create(model="small", input=["one", "two"], encoding_format=form)
        checks.equal(f"embeddings {form}", [len(e.embedding) > 0 for e in found.data], [True, True])
    parsed = client.chat.completions.parse(**{**ask, "max_tokens": 200}, response_format=Colour).choices[0].message.parsed
    checks.equal("schema", type(parsed), Colour)
    forced = client.chat.completions.create(**{**ask, "max_tokens": 200}, tools=[TOOL], tool_choice="required").choices[0]
    checks.equal("forced call", (forced.finish_reason, forced.message.tool_calls[0].function.name), ("tool_calls", TOOL["function"]["name"]))
    for error, change in ((openai.NotFoundError, {"model": "none"}), (openai.BadRequestError, {"temperature": -1}),
                          (openai.BadRequestError, {"response_format": {"type": "xml"}})):
        try:
            client.chat.completions.create(**{**ask, **change})
            checks.equal(f"refuses {change}", "answered", error.__name__)
        except error:
            pass
    try:
        openai.OpenAI(base_url=url + "/v1", api_key="wrong", max_retries=0).models.list()
        checks.equal("wrong key", "answered", "refused")
    except openai.AuthenticationError:
        pass
    return ran["text"]


def with_ollama(url, answer, checks):
    client = ollama.Client(host=url, headers={"Authorization": "Bearer key"})
    options = {"temperature": 0, "num_predict": 24, "repeat_penalty": 1}
    checks.equal("list", [m.model for m in client.list().models], ["small"])
    checks.equal("show", client.show("small").details.family, "llama")
    checks.equal("ollama chat", client.chat("small", QUESTION, options=options).message.content, answer)
    checks.equal("ollama stream", "".join(p.message.content for p in client.chat("small", QUESTION, options=options, stream=True)), answer)
    checks.equal("generate", client.generate("small", QUESTION[0]["content"], options=options).response, answer)
    checks.equal("ps", [m.model for m in client.ps().models], ["small"])
    written = client.chat("small", QUESTION, options={**options, "num_predict": 200}, format=Colour.model_json_schema())
    checks.equal("ollama schema", type(Colour.model_validate_json(written.message.content)), Colour)
    checks.equal("embed", len(client.embed("small", ["one", "two"]).embeddings), 2)
    try:
        client.chat("none", QUESTION)
        checks.equal("no such model", "answered", "refused")
    except ollama.ResponseError as error:
        checks.equal("no such model", error.status_code, 404)


def main():
    checks = common.Checks()
    model = common.model("plain")
    process, url = start(model)
    try:
        with_ollama(url, with_openai(url, model, checks), checks)
        process.terminate()
        checks.equal("exit code", process.wait(60), 0)
    finally:
        process.kill()
        process.wait()
    checks.finish()


if __name__ == "__main__":
    main()
