"""Stock llama.cpp as a judge: logits, greedy text and perplexity from the library inside the PyPI package xllamacpp.

Only the functions used here are declared. The two parameter structs are passed by value and differ between versions
of llama.cpp, so they are declared with the fields that have stood first for years and room for more than any version
has: the library fills in and reads the part it knows.
"""
import importlib.util
import math
import os
import pathlib

# The worker threads of OpenMP sleep while they wait: spinning ones hold up whatever runs beside this test.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
from cffi import FFI

ffi = FFI()
ffi.cdef("""
typedef struct { void *devices; void *buffer_overrides; int32_t n_gpu_layers; char rest[2028]; } model_params;
typedef struct { uint32_t n_ctx, n_batch, n_ubatch; char rest[2036]; } context_params;
typedef struct { int32_t n_tokens; int32_t *token; float *embd; int32_t *pos; int32_t *n_seq_id; int32_t **seq_id;
                 int8_t *logits; } batch;
void llama_backend_init(void);
void llama_log_set(void (*callback)(int level, const char *text, void *user), void *user);
model_params llama_model_default_params(void);
context_params llama_context_default_params(void);
void *llama_model_load_from_file(const char *path, model_params params);
void llama_model_free(void *model);
const void *llama_model_get_vocab(const void *model);
int32_t llama_vocab_n_tokens(const void *vocab);
bool llama_vocab_get_add_bos(const void *vocab);
int32_t llama_vocab_bos(const void *vocab);
void *llama_init_from_model(void *model, context_params params);
void llama_free(void *context);
void llama_set_n_threads(void *context, int32_t one_token, int32_t many_tokens);
void *llama_get_memory(const void *context);
void llama_memory_clear(void *memory, bool data);
batch llama_batch_init(int32_t n_tokens, int32_t embd, int32_t n_seq_max);
void llama_batch_free(batch b);
int32_t llama_decode(void *context, batch b);
float *llama_get_logits(void *context);
int32_t llama_tokenize(const void *vocab, const char *text, int32_t length, int32_t *tokens, int32_t room, bool special, bool parse);
int32_t llama_detokenize(const void *vocab, const int32_t *tokens, int32_t n, char *text, int32_t room, bool remove, bool unparse);
""")

lib = ffi.dlopen(str(pathlib.Path(importlib.util.find_spec("xllamacpp").origin).with_name("xllamacpp.abi3.so")))
recent_log = []


@ffi.callback("void(int, const char *, void *)")
def _log(_level, text, _user):
    recent_log.append(ffi.string(text).decode("utf-8", "replace"))
    del recent_log[:-20]


lib.llama_log_set(_log, ffi.NULL)
lib.llama_backend_init()


class Model:
    """A GGUF file in stock llama.cpp on the processor, with the defaults of its own tools."""

    def __init__(self, path, context=512, threads=2):
        params = lib.llama_model_default_params()
        params.n_gpu_layers = 0
        recent_log.clear()
        self._model = lib.llama_model_load_from_file(os.fsencode(path), params)
        if self._model == ffi.NULL:
            raise RuntimeError(f"llama.cpp does not load {path}: {''.join(recent_log).strip()}")
        params = lib.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = self.context = context
        self._context = lib.llama_init_from_model(self._model, params)
        lib.llama_set_n_threads(self._context, threads, threads)
        self._vocab = lib.llama_model_get_vocab(self._model)
        self._batch = lib.llama_batch_init(context, 0, 1)
        self.vocab_size = lib.llama_vocab_n_tokens(self._vocab)
        self.adds_bos, self.bos = lib.llama_vocab_get_add_bos(self._vocab), lib.llama_vocab_bos(self._vocab)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        lib.llama_batch_free(self._batch)
        lib.llama_free(self._context)
        lib.llama_model_free(self._model)

    def tokenize(self, text, add_special=True, parse_special=False):
        raw = text.encode()
        tokens = ffi.new("int32_t[]", len(raw) + 8)
        n = lib.llama_tokenize(self._vocab, raw, len(raw), tokens, len(raw) + 8, add_special, parse_special)
        assert n >= 0, text
        return list(tokens[0:n])

    def detokenize(self, tokens):
        room = 64 * len(tokens) + 64
        text = ffi.new("char[]", room)
        n = lib.llama_detokenize(self._vocab, ffi.new("int32_t[]", tokens), len(tokens), text, room, False, True)
        return ffi.buffer(text, n)[:].decode("utf-8", "replace")

    def _decode(self, tokens, position, wanted):
        """Feeds tokens; float32 [number of wanted, vocab], the logits after those where `wanted` is true."""
        self._batch.n_tokens = len(tokens)
        for i, token in enumerate(tokens):
            self._batch.token[i], self._batch.pos[i], self._batch.logits[i] = token, position + i, wanted[i]
            self._batch.n_seq_id[i], self._batch.seq_id[i][0] = 1, 0
        status = lib.llama_decode(self._context, self._batch)
        assert status == 0, f"llama_decode: {status}"
        n = sum(wanted)
        return np.frombuffer(ffi.buffer(lib.llama_get_logits(self._context), 4 * n * self.vocab_size), np.float32).reshape(n, -1).copy()

    def logits(self, tokens, first=0):
        """float32 [len(tokens) - first, vocab]: the logits after each token from position `first` on."""
        assert len(tokens) <= self.context
        lib.llama_memory_clear(lib.llama_get_memory(self._context), True)
        return self._decode(tokens, 0, [i >= first for i in range(len(tokens))])

    def greedy(self, tokens, n):
        """The n most probable next tokens, one after the other, and for each the lead of its logit over the second."""
        step, out, leads = self.logits(tokens, len(tokens) - 1)[0], [], []
        while True:
            second, best = np.argpartition(step, -2)[-2:]
            out.append(int(best) if step[best] >= step[second] else int(second))
            leads.append(float(abs(step[best] - step[second])))
            if len(out) == n:
                return out, leads
            step = self._decode([out[-1]], len(tokens) + len(out) - 1, [True])[0]


def log_softmax(x):
    x = x - x.max(axis=-1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=-1, dtype=np.float64, keepdims=True)).astype(np.float32)


def perplexity(model, text, chunks, context=512):
    """The procedure of llama.cpp's own tool: chunks of `context` tokens, the second half of each scored, the first token
    of each replaced by BOS where the vocabulary says that texts begin with it."""
    tokens, scored = model.tokenize(text), []
    for c in range(min(chunks, len(tokens) // context)):
        chunk = tokens[c * context:(c + 1) * context]
        fed = [model.bos] + chunk[1:] if model.adds_bos else chunk
        first = context // 2
        p = log_softmax(model.logits(fed, first)[:-1])
        scored.append(-p[np.arange(len(p)), chunk[first + 1:]])
    return math.exp(np.concatenate(scored).mean(dtype=np.float64))
