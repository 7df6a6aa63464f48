"""Token ids equal those of the Python package `tokenizers`, from the checkpoint and from the GGUF made of it."""
import json
import pathlib
import random

import common

try:
    import tokenizers
except ImportError:
    common.skip("the Python package tokenizers is missing")

HARD = [
    "", " ", "  ", "\n", "\r\n", "\t\tx", "a", "Hello, world!", "don't I'll we've they'd IT'S",
    "1234567890 3.14159 1,000,000 ½ ² Ⅷ ٣٤٥", "   leading and trailing   ", "a\u00a0b\u2003c\u3000d",
    "naïve café ﬁancé e\u0301 \u1ec7 n\u0303", "日本語のテキストと漢字、カタカナ。", "한국어 문장", "ภาษาไทยไม่มีช่องว่าง",
    "العربية من اليمين", "עברית", "हिन्दी में", "👩‍👩‍👧‍👦 🏳️‍🌈 🇩🇪 👍🏽", "\u200b\u200d\ufeff", "zero\u0000byte",
    "int main() {\n\treturn x->y[0] != '\\0' ? a_b : 0x1F;\n}\n", "def f(x):\n    return {**x, 'k': [1, 2]}\n",
    "https://example.org/a?b=c&d=%20#frag", "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
    "<|endoftext|>", "<|im_start|", "text<|im_end|>text", "x" * 3000, "ab " * 500, "\n\n\n  \n\t \n", "…—–“”‘’«»",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 \U0010ffff", "\x01\x02\x7f", "end with space ", "ZWJ\u200d", "\ufffd",
]


def random_texts(count):
    """Strings over an alphabet of everything that tokenizers stumble over."""
    rng = random.Random(1)
    alphabet = [chr(c) for c in range(32, 127)] + list("\n\t\r éß日本ж́\u200d👍🏽") + ["<|im_end|>", "  ", "'s", "123"]
    return ["".join(rng.choices(alphabet, k=rng.randrange(1, 60))) for _ in range(count)]


def main():
    checks = common.Checks()
    checkpoint = common.model("plain")
    texts = HARD + random_texts(400) + [common.TEXT.read_text(encoding="utf-8")]
    with common.scratch() as directory:
        listing = pathlib.Path(directory) / "texts.json"
        listing.write_text(json.dumps(texts), encoding="utf-8")
        gguf = pathlib.Path(directory) / "model.gguf"
        common.nibble("quantize", checkpoint, "-o", gguf, "--to", "Q8_0", "--recipe", "nearest")
        judge = tokenizers.Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
        for spell in (False, True):
            judge.encode_special_tokens = spell
            want = [judge.encode(t, add_special_tokens=False).ids for t in texts]
            for path in (checkpoint, gguf):
                got = common.nibble_json("tokenize", path, "--file", listing, *(["--spell-special"] if spell else []))
                for text, ids, expected in zip(texts, got, want):
                    checks.equal(f"{path.name} {text[:40]!r}", ids["ids"], expected)
    print(f"{len(texts)} texts, two ways, two files")
    checks.finish()


if __name__ == "__main__":
    main()
