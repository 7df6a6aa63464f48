#!/usr/bin/env python3
"""What `nibble quantize --to gptq:...` and the like write as a whole: the files, what they say, and what is refused.

That other programs load them is judged by tests/interop/writer_test.py; here nibble's own `eval` reads them back.
"""
import json
import pathlib
import random
import shlex
import shutil
import struct
import subprocess
import sys
import tempfile

import checkpoint

TARGETS = ("gptq:int4-g32", "gptq:int3-g32-asym", "awq:int4-g32", "bnb:nf4", "bnb:int8", "ct:w4a16-g32", "ct:w8a8", "ct:fp8",
           "ct:mxfp4", "ct:nvfp4", "mlx:int4-g32")


class Program:
    def __init__(self, command):
        self.command = shlex.split(command)

    def __call__(self, *arguments, expect=0):
        done = subprocess.run([*self.command, *map(str, arguments)], capture_output=True, text=True)
        if done.returncode != expect:
            sys.exit(f"{arguments}: exit code {done.returncode}, not {expect}: {done.stderr}")
        return done.stdout if expect == 0 else done.stderr


def header(path):
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8:8 + size])


def stored(folder):
    """The same for any number of shards: name of a tensor to its bytes."""
    out = {}
    for path in sorted(folder.glob("*.safetensors")):
        data, tensors = path.read_bytes(), header(path)
        begin = 8 + struct.unpack("<Q", data[:8])[0]
        for name, tensor in tensors.items():
            if name != "__metadata__":
                out[name] = data[begin + tensor["data_offsets"][0]:begin + tensor["data_offsets"][1]]
    return out


class Test:
    def __init__(self, nibble, folder):
        self.nibble, self.folder, self.wrong = nibble, folder, []
        self.model, self.words = folder / "model", folder / "text.txt"
        self.model.mkdir()
        checkpoint.write(self.model, random.Random(3))
        self.words.write_text(checkpoint.text(1))
        (self.model / "generation_config.json").write_text('{"temperature": 0.5}')

    def check(self, what, good):
        if not good:
            self.wrong.append(what)

    def quantize(self, output, target, *options):
        self.nibble("quantize", self.model, "-o", output, "--to", target, *options)

    def refused(self, what, text, *arguments):
        said = self.nibble(*arguments, expect=2)
        self.check(f"{what}: {said}", text in said)
        left = [path.name for path in self.folder.iterdir() if path.name.endswith((".part", ".journal"))]
        self.check(f"{what}: left over: {left}", not left)

    def usual_recipes(self):
        for target, recipe in (("ct:w8a8", "smoothquant+gptq"), ("ct:fp8", "gptq"), ("gptq:int4-g32", "gptq"), ("Q4_K_M", "awq+gptq")):
            said = json.loads(self.nibble("quantize", self.model, "-o", self.folder / "none", "--to", target, "--dry-run", "--json",
                                          "--calib", self.words))
            self.check(f"{target}: usually {said['recipe']}", said["recipe"] == f"{recipe}:{target}")

    def every_target(self):
        for target in TARGETS:
            output = self.folder / target.replace(":", "-")
            self.quantize(output, target, "--recipe", "nearest", "--calib", self.words)
            config = json.loads((output / "config.json").read_text())
            self.check(f"{target}: config.json", "quantization_config" in config and config["hidden_size"] == checkpoint.WIDTH)
            for name in ("tokenizer.json", "generation_config.json"):
                self.check(f"{target}: {name}", (output / name).read_bytes() == (self.model / name).read_bytes())
            card = (output / "README.md").read_text()
            self.check(f"{target}: model card", target in card and "KL divergence" in card and "nearest" in card)
            found = json.loads(self.nibble("eval", output, "--ref", self.model, "--text", self.words, "--chunks", "2", "--json"))
            self.check(f"{target}: KL divergence {found['kld_mean']}", 0 < found["kld_mean"] < 0.3)

    def shards(self):
        one, many, other = (self.folder / name for name in ("one", "many", "other"))
        self.quantize(one, "gptq:int4-g32", "--calib", self.words, "--threads", "1")
        said = self.nibble("quantize", self.model, "-o", many, "--to", "gptq:int4-g32", "--recipe", "nearest", "--split", "200kB")
        self.check(f"the directory is named, not its shards: {said}", f"{many} in " in said and ".safetensors" not in said)
        self.quantize(many, "gptq:int4-g32", "--calib", self.words, "--threads", "3", "--split", "200kB", "--force")
        index = json.loads((many / "model.safetensors.index.json").read_text())
        self.check("several shards", len(set(index["weight_map"].values())) > 1)
        self.check("the index names every tensor", set(index["weight_map"]) == set(stored(many)))
        self.check("the same bytes from any number of threads, in any number of shards", stored(one) == stored(many))
        self.quantize(other, "gptq:int4-g32", "--recipe", "nearest", "--override", "blk\\.0\\.=bf16")
        self.check("an override keeps a matrix", "model.layers.0.mlp.up_proj.weight" in stored(other))
        kept = json.loads((other / "config.json").read_text())["quantization_config"]["dynamic"]
        self.check(f"and the settings say so: {kept}", any("model.layers.0.mlp.up_proj" in pattern for pattern in kept))

    def act_order(self):
        """Columns that matter alike share a group, and that is said in full."""
        plain, sorted_ = self.folder / "plain", self.folder / "sorted"
        self.quantize(plain, "gptq:int4-g32", "--recipe", "gptq", "--calib", self.words)
        self.quantize(sorted_, "gptq:int4-g32-actorder", "--recipe", "gptq", "--calib", self.words)
        config = json.loads((sorted_ / "config.json").read_text())["quantization_config"]
        self.check("desc_act", config["desc_act"] is True)
        groups = struct.unpack(f"<{checkpoint.WIDTH}I", stored(sorted_)["model.layers.0.mlp.up_proj.g_idx"])
        self.check("every group has its columns", sorted(groups) == [j // 32 for j in range(checkpoint.WIDTH)])
        self.check("not those of neighbours", list(groups) != sorted(groups))
        loss = [json.loads(self.nibble("eval", each, "--ref", self.model, "--text", self.words, "--chunks", "2", "--json"))["kld_mean"]
                for each in (plain, sorted_)]
        self.check(f"KL divergence with act-order {loss[1]}, without {loss[0]}", loss[1] < 2 * loss[0])
        self.refused("act-order without error feedback", "--recipe gptq", "quantize", self.model, "-o", self.folder / "out", "--to",
                     "gptq:int4-g32-actorder", "--recipe", "nearest")

    def static_inputs(self):
        """One scale for the inputs of each matrix, of the largest that calibration saw."""
        out = self.folder / "static"
        self.quantize(out, "ct:fp8-static", "--recipe", "gptq", "--calib", self.words)
        inputs = json.loads((out / "config.json").read_text())["quantization_config"]["config_groups"]["group_0"]["input_activations"]
        self.check(f"settings {inputs}", (inputs["strategy"], inputs["dynamic"]) == ("tensor", False))
        scales = {name: data for name, data in stored(out).items() if name.endswith(".input_scale")}
        kinds = {kind: scales[f"model.layers.0.{kind}_proj.input_scale"]
                 for kind in ("self_attn.q", "self_attn.k", "self_attn.v", "mlp.up", "mlp.down")}
        self.check("what reads the same has the same scale", kinds["self_attn.q"] == kinds["self_attn.k"] == kinds["self_attn.v"])
        self.check("what does not has not", len(set(kinds.values())) == 3)
        loss = json.loads(self.nibble("eval", out, "--ref", self.model, "--text", self.words, "--chunks", "2", "--json"))["kld_mean"]
        dynamic = self.folder / "dynamic"
        self.quantize(dynamic, "ct:fp8", "--recipe", "gptq", "--calib", self.words)
        least = json.loads(self.nibble("eval", dynamic, "--ref", self.model, "--text", self.words, "--chunks", "2", "--json"))["kld_mean"]
        self.check(f"KL divergence {loss}, {least} with a scale a token", loss < 2 * least)
        self.refused("static scales without calibration", "--recipe gptq", "quantize", self.model, "-o", self.folder / "out", "--to",
                     "ct:fp8-static", "--recipe", "nearest")

    def again(self):
        """A checkpoint that was written is a source like any other, and --force replaces one."""
        first, second = self.folder / "first", self.folder / "second"
        self.quantize(first, "ct:w4a16-g32", "--recipe", "nearest")
        self.nibble("quantize", first, "-o", second, "--to", "ct:w4a16-g32", "--recipe", "nearest")
        self.check("codes that fit are taken over as they are", stored(first) == stored(second))
        self.quantize(second, "bnb:fp4", "--force")
        self.check("--force replaces the whole directory", "quant_state" in " ".join(stored(second)))
        self.check("nothing is left of the old one", not (self.folder / "second.old").exists())

    def refusals(self):
        out = self.folder / "out"
        self.refused("unknown scheme", "nothing is written as 'gtpq'", "quantize", self.model, "-o", out, "--to", "gtpq:int4")
        self.check("and nothing is estimated before", "\n" not in self.nibble("quantize", self.model, "-o", out, "--to", "Q4_L", expect=2).strip())
        self.refused("unknown type", "int5", "quantize", self.model, "-o", out, "--to", "gptq:int5")
        self.refused("groups that do not fit", "no multiple", "quantize", self.model, "-o", out, "--to", "gptq:int4-g128", "--recipe", "nearest")
        self.refused("another format", "stays unquantized", "quantize", self.model, "-o", out, "--to", "awq:int4-g32", "--override", "ffn_up=q8_0")
        self.refused("no place", "cannot create", "quantize", self.model, "-o", self.folder / "no" / "where", "--to", "bnb:nf4")
        self.refused("into the source", "holds the source", "quantize", self.model, "-o", self.model, "--to", "bnb:nf4", "--force")
        self.refused("around the source", "holds the source", "quantize", self.model, "-o", self.folder, "--to", "bnb:nf4", "--force")
        self.quantize(self.folder / "m.gguf", "Q8_0", "--recipe", "nearest")
        self.refused("from a GGUF", "Hugging Face directory", "quantize", self.folder / "m.gguf", "-o", out, "--to", "bnb:nf4")
        mine = self.folder / "mine"
        mine.mkdir()
        (mine / "letter.txt").write_text("dear")
        self.refused("there already", "--force", "quantize", self.model, "-o", mine, "--to", "bnb:nf4")
        self.refused("no checkpoint", "is not replaced", "quantize", self.model, "-o", mine, "--to", "bnb:nf4", "--force")
        self.check("what was there is as it was", (mine / "letter.txt").read_text() == "dear")


    def damaged_sources(self):
        """One line for whatever is wrong with a checkpoint that is to be read."""
        good, bad = self.folder / "good", self.folder / "bad"
        self.quantize(good, "gptq:int4-g32-actorder", "--recipe", "gptq", "--calib", self.words, "--split", "200kB")
        shards = sorted(path.name for path in good.glob("*.safetensors"))

        def settings(change):
            config = json.loads((bad / "config.json").read_text())
            change(config["quantization_config"])
            (bad / "config.json").write_text(json.dumps(config))

        def shorten():
            data = (bad / shards[0]).read_bytes()
            (bad / shards[0]).write_bytes(data[:len(data) // 2])

        def hide(name):  # a tensor, by a name of the same length
            for shard in shards:
                data = (bad / shard).read_bytes()
                (bad / shard).write_bytes(data.replace(b'"' + name + b'"', b'"' + name[:-1] + b'_"'))
            index = bad / "model.safetensors.index.json"
            index.write_bytes(index.read_bytes().replace(name + b'"', name[:-1] + b'_"'))

        for what, says, damage in (
                ("a config of other bits", "expected", lambda: settings(lambda c: c.update(bits=8))),
                ("a config of other groups", "expected", lambda: settings(lambda c: c.update(group_size=64))),
                ("a config of another scheme", "qweight", lambda: settings(lambda c: c.update(quant_method="awq", version="gemm"))),
                ("an unknown scheme", "quant_method 'exl9'; nibble reads: gptq", lambda: settings(lambda c: c.update(quant_method="exl9"))),
                ("a config of nothing that is there", "no tensor is stored so", lambda: settings(lambda c: c.update(quant_method="bitsandbytes"))),
                ("no g_idx", "mlp.down_proj.g_idx' is missing", lambda: hide(b"model.layers.0.mlp.down_proj.g_idx")),
                ("half a shard", shards[0], shorten),
                ("no shard", shards[0], lambda: (bad / shards[0]).unlink())):
            shutil.copytree(good, bad)
            damage()
            for command in (("inspect", bad), ("eval", bad, "--text", self.words), ("quantize", bad, "-o", self.folder / "out.gguf", "--to", "Q8_0")):
                said = self.nibble(*command, expect=2)
                self.check(f"{what}: {command[0]}: {said}", says in said and said.startswith("nibble: ") and said.count("\n") == 1)
            shutil.rmtree(bad)


def main():
    with tempfile.TemporaryDirectory() as folder:
        test = Test(Program(sys.argv[1]), pathlib.Path(folder))
        test.usual_recipes()
        test.every_target()
        test.shards()
        test.act_order()
        test.static_inputs()
        test.again()
        test.refusals()
        test.damaged_sources()
        sys.exit("\n".join(test.wrong) or 0)


if __name__ == "__main__":
    main()
