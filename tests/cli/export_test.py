#!/usr/bin/env python3
"""nibble export: every part of a model that Ollama's manifest lists is there under its hash, and templates say what the model's say."""
import hashlib
import json
import os
import pathlib
import random
import shlex
import subprocess
import sys
import tempfile

import checkpoint

CHATML = ("{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
          "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")
LLAMA2 = ("{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system = messages[0]['content'] %}"
          "{% else %}{% set loop_messages = messages %}{% set system = false %}{% endif %}{% for m in loop_messages %}"
          "{% if loop.index0 == 0 and system %}{% set content = '<<SYS>>\n' + system + '\n<</SYS>>\n\n' + m['content'] %}"
          "{% else %}{% set content = m['content'] %}{% endif %}{% if m['role'] == 'user' %}"
          "{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% else %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}")
LLAMA3 = ("{% for m in messages %}{% set content = '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + m['content'] | trim + '<|eot_id|>' %}"
          "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}"
          "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}")
ZEPHYR = ("{% for m in messages %}\n{% if m['role'] == 'user' %}\n{{ '<|user|>\n' + m['content'] + eos_token }}\n{% elif m['role'] == 'system' %}\n"
          "{{ '<|system|>\n' + m['content'] + eos_token }}\n{% else %}\n{{ '<|assistant|>\n' + m['content'] + eos_token }}\n{% endif %}\n"
          "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}")
GEMMA = ("{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}{% for m in messages %}"
         "{% set role = 'model' if m['role'] == 'assistant' else m['role'] %}"
         "{{ '<start_of_turn>' + role + '\n' + m['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
         "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}")
MISTRAL = ("{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
           "{% elif m['role'] == 'assistant' %}{{ m['content'] + eos_token }}{% else %}{{ raise_exception('roles') }}{% endif %}{% endfor %}")
KNOWN = {"chatml": CHATML, "llama2": LLAMA2, "llama3": LLAMA3, "zephyr": ZEPHYR, "gemma": GEMMA, "mistral": MISTRAL}
UNKNOWN = {
    "counts": "{% for m in messages %}{{ loop.length }}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}",
    "dated": "{{ strftime_now('%d') }}" + CHATML,
    "shouts": CHATML.replace("m['content']", "m['content'] | upper"),
    "last": "{% for m in messages %}{{ m['content'] if loop.last else '' }}{% endfor %}",
}
SYSTEM = "Answer in one word."
TURNS = ["How are you?", "Fine {{ here }}.", "And now?"]

# The template is run by Go itself where it is installed.
GO = """package main
import ("encoding/json"; "os"; "text/template")
type Message struct { Role, Content string }
func main() {
	var in struct { Template, System string; Messages []Message }
	if json.NewDecoder(os.Stdin).Decode(&in) != nil { os.Exit(3) }
	t := template.Must(template.New("").Option("missingkey=zero").Parse(in.Template))
	if t.Execute(os.Stdout, map[string]any{"System": in.System, "Messages": in.Messages, "Response": ""}) != nil { os.Exit(4) }
}
"""


def run(program, *arguments, code=0):
    done = subprocess.run([*shlex.split(program), *map(str, arguments)], capture_output=True, text=True)
    if done.returncode != code:
        sys.exit(f"{arguments}: exit code {done.returncode}, not {code}: {done.stderr}")
    return done.stdout, done.stderr


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def make(program, folder, template):
    """A GGUF with this chat template."""
    model = folder / "model"
    if not model.exists():
        model.mkdir()
        checkpoint.write(model, random.Random(3))
    (model / "tokenizer_config.json").write_text(json.dumps(
        {"chat_template": template, "bos_token": "<s>", "eos_token": "<s>", **({} if template else {"chat_template": None})}))
    out = folder / "model.gguf"
    run(program, "convert", model, "-o", out, "--force")
    return out


def check_store(store, gguf, wrong, name="library/small/q4"):
    """Everything listed is there, whole, under the hash of its bytes; nothing else is."""
    manifest = json.loads((store / "manifests/registry.ollama.ai" / name).read_text())
    listed = [manifest["config"], *manifest["layers"]]
    for entry in listed:
        blob = store / "blobs" / entry["digest"].replace(":", "-")
        if not blob.is_file() or blob.stat().st_size != entry["size"] or "sha256:" + sha256(blob) != entry["digest"]:
            wrong.append(f"blob {entry}")
    if {p.name for p in (store / "blobs").iterdir()} != {e["digest"].replace(":", "-") for e in listed}:
        wrong.append("blobs that no manifest lists, or temporary files")
    kinds = {e["mediaType"].removeprefix("application/vnd.ollama.image."): store / "blobs" / e["digest"].replace(":", "-")
             for e in manifest["layers"]}
    if set(kinds) != {"model", "template", "system", "params", "license"} or manifest["schemaVersion"] != 2:
        wrong.append(f"layers {sorted(kinds)}")
    if sha256(kinds["model"]) != sha256(gguf):
        wrong.append("the model's bytes differ")
    config = json.loads((store / "blobs" / manifest["config"]["digest"].replace(":", "-")).read_text())
    if config["rootfs"]["diff_ids"] != [e["digest"] for e in manifest["layers"]] or config["model_family"] != "llama":
        wrong.append(f"config {config}")
    params = json.loads(kinds["params"].read_text())
    if params != {"num_ctx": 512, "stop": ["<s>"]}:
        wrong.append(f"params {params}")
    return kinds


def stores(program, folder, wrong):
    gguf = make(program, folder, CHATML)
    licence = folder / "LICENCE"
    licence.write_text("Do what you like.\n")
    store = folder / "ollama"
    command = ("export", gguf, "--ollama", "small:q4", "--models", store, "--system", "Be brief.", "--license", licence)
    stdout, _ = run(program, *command)
    kinds = check_store(store, gguf, wrong)
    if os.path.samefile(kinds["model"], gguf) != ("linked" in stdout):
        wrong.append(f"linked or copied? {stdout}")
    error = run(program, *command, code=2)[1]
    if "exists already" not in error:
        wrong.append(error)
    again, _ = run(program, *command, "--force")
    if "there already" not in again:
        wrong.append(again)
    check_store(store, gguf, wrong)
    kinds["model"].unlink()  # a blob that is half there is made whole
    kinds["model"].write_bytes(b"GGUF")
    run(program, *command, "--force")
    check_store(store, gguf, wrong)

    run(program, "export", gguf, "--ollama", "small", "--system", 'Say "yes".')
    text = (folder / "model.Modelfile").read_text()
    for line in (f"FROM {gguf}\n", "PARAMETER num_ctx 512\n", 'PARAMETER stop "<s>"\n', 'SYSTEM """Say "yes"."""\n'):
        if line not in text:
            wrong.append(f"Modelfile without {line!r}: {text}")
    for bad in ("a b", "../x", "", "x:y:z", "a/b/c"):
        run(program, "export", gguf, "--ollama", bad, "--models", store, code=2)
    run(program, "export", gguf, code=2)
    run(program, "export", folder / "model", "--ollama", "x", code=2)

    studio = folder / "studio"
    run(program, "export", gguf, "--lmstudio", studio, "--publisher", "me", "--name", "small")
    if sha256(studio / "me/small/model.gguf") != sha256(gguf) or len(list(studio.rglob("*"))) != 3:
        wrong.append("LM Studio's folders")
    run(program, "export", gguf, "--lmstudio", studio, "--publisher", "me", "--name", "small", code=2)
    run(program, "export", gguf, "--lmstudio", studio, "--publisher", "..", code=2)


def go_renderer(folder):
    """None without Go."""
    (folder / "render.go").write_text(GO)
    try:
        subprocess.run(["go", "build", "-o", folder / "render", folder / "render.go"], check=True, capture_output=True,
                       env={**os.environ, "GO111MODULE": "off"})
    except (OSError, subprocess.CalledProcessError):
        return None
    return lambda given: subprocess.run([folder / "render"], input=json.dumps(given), capture_output=True, text=True, check=True).stdout


EXPECTED = {  # begin with a system message, what follows it, begin without; before an answer, before one that is there; after it
    "chatml": ("<|im_start|>system\n", "<|im_end|>\n<|im_start|>user\n", "<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n",
               "<|im_end|>\n<|im_start|>assistant\n", "<|im_end|>\n<|im_start|>user\n"),
    "llama2": ("<s>[INST] <<SYS>>\n", "\n<</SYS>>\n\n", "<s>[INST] ", " [/INST]", " [/INST] ", " <s><s>[INST] "),
    "llama3": ("<s><|start_header_id|>system<|end_header_id|>\n\n", "<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n",
               "<s><|start_header_id|>user<|end_header_id|>\n\n", "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
               "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n", "<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"),
    "zephyr": ("<|system|>\n", "<s>\n<|user|>\n", "<|user|>\n", "<s>\n<|assistant|>\n", "<s>\n<|assistant|>\n", "<s>\n<|user|>\n"),
    "gemma": (None, None, "<s><start_of_turn>user\n", "<end_of_turn>\n<start_of_turn>model\n",
              "<end_of_turn>\n<start_of_turn>model\n", "<end_of_turn>\n<start_of_turn>user\n"),
    "mistral": (None, None, "<s>[INST] ", " [/INST]", " [/INST]", "<s>[INST] "),
}


def templates(program, folder, wrong):
    render = go_renderer(folder)
    print("templates are run by Go" if render else "SKIP: no Go here to run the templates")
    for name, template in KNOWN.items():
        gguf = make(program, folder, template)
        report = json.loads(run(program, "export", gguf, "--ollama", name, "--force", "--json")[0])
        system, after_system, begin, before, answered, after = EXPECTED[name]
        for piece in (system, after_system, begin, before, after):
            if piece and piece not in report["template"]:
                wrong.append(f"{name}: {piece!r} is not in {report['template']!r}")
        if (system is None) != any("no system message" in note for note in report["notes"]):
            wrong.append(f"{name}: {report['notes']}")
        if not render:
            continue
        messages = [{"Role": "user" if i % 2 == 0 else "assistant", "Content": turn} for i, turn in enumerate(TURNS)]
        expected = begin + TURNS[0] + answered + TURNS[1] + after + TURNS[2] + before
        got = render({"Template": report["template"], "System": "", "Messages": messages})
        if got != expected:
            wrong.append(f"{name}: {got!r}, not {expected!r}")
        if system:
            got = render({"Template": report["template"], "System": SYSTEM,
                          "Messages": [{"Role": "system", "Content": SYSTEM}, *messages[:1]]})
            if got != system + SYSTEM + after_system + TURNS[0] + before:
                wrong.append(f"{name}, system: {got!r}")
    for name, template in UNKNOWN.items():
        gguf = make(program, folder, template)
        error = run(program, "export", gguf, "--ollama", name, "--force", code=2)[1]
        if "chat_template" not in error or "--template" not in error:
            wrong.append(f"{name}: {error}")
    own = folder / "own.tmpl"
    own.write_text("{{ .Prompt }}!")
    run(program, "export", gguf, "--ollama", "own", "--template", own, "--force")
    if 'TEMPLATE """{{ .Prompt }}!"""' not in (folder / "model.Modelfile").read_text():
        wrong.append("--template was not taken")


def main():
    program, wrong = sys.argv[1], []
    for part in (stores, templates):
        with tempfile.TemporaryDirectory() as folder:
            part(program, pathlib.Path(folder), wrong)
    if wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
