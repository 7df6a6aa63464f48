/* Tokenizers (tokenizer.json), chat templates and grammars behind a C ABI; implemented in Rust.
 *
 * Strings: all text is UTF-8, given as pointer and byte length; it may contain NUL and needs no
 * terminator. A null pointer with length 0 is the empty string.
 *
 * Errors: functions return a nibble_text_status. On failure the outputs are empty and `error`
 * receives a message for people, UTF-8 without a final newline. `error` may be null.
 * Input is never trusted: bad input yields a status. Nothing here prints, exits or throws.
 *
 * Ownership: buffers and id arrays belong to the caller and are released with
 * nibble_text_buffer_free and nibble_text_ids_free, and only with those. Outputs need not be
 * initialised; what they held before is overwritten, not released. A successful output's data
 * pointer is not null even when its length is 0; it must not be dereferenced then.
 *
 * Threads: a nibble_tokenizer is immutable; any number of threads may use one at once. It must
 * outlive their calls. All other functions are reentrant.
 */
#ifndef NIBBLE_TEXT_H
#define NIBBLE_TEXT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum nibble_text_status {
  NIBBLE_TEXT_OK = 0,
  NIBBLE_TEXT_ARGUMENT = 1,    /* null, not UTF-8, unknown id, beyond a limit stated below */
  NIBBLE_TEXT_CORRUPT = 2,     /* malformed or contradictory tokenizer.json, JSON or template */
  NIBBLE_TEXT_UNSUPPORTED = 3, /* well-formed, but not executed here */
  NIBBLE_TEXT_LIMIT = 4,       /* a bound on work, memory, depth or output was reached */
  NIBBLE_TEXT_RAISED = 5,      /* the template called raise_exception; error is its message */
  NIBBLE_TEXT_RENDER = 6,      /* the template failed, e.g. an undefined value was used */
  NIBBLE_TEXT_INTERNAL = 7     /* a bug in this library or in its dependencies */
} nibble_text_status;

typedef struct nibble_text_buffer {
  uint8_t *data;
  size_t len;
} nibble_text_buffer;

typedef struct nibble_text_ids {
  uint32_t *data;
  size_t len;
} nibble_text_ids;

/* Release what a function returned and reset it to {null, 0}. Null and {null, 0} are allowed. */
void nibble_text_buffer_free(nibble_text_buffer *buffer);
void nibble_text_ids_free(nibble_text_ids *ids);

/* The version of this library, a static string. */
const char *nibble_text_version(void);

/* ---- Tokenizer -------------------------------------------------------------------------- */

typedef struct nibble_tokenizer nibble_tokenizer;

/* Loads the bytes of a tokenizer.json file; they are not kept. Padding, truncation and BPE
 * dropout of the file are ignored. Refused: added tokens whose declared id is not the id that
 * the reference implementation gives them, tokens over 4096 bytes, added tokens over 512 bytes or
 * 8 MiB together, component chains that multiply the text. */
int32_t nibble_tokenizer_load(const uint8_t *json, size_t len, nibble_tokenizer **out,
                              nibble_text_buffer *error);
void nibble_tokenizer_free(nibble_tokenizer *tokenizer);

/* Added tokens marked special (<|im_start|>, <s>) are matched in the text. Without this flag
 * they are spelled like any other text; added tokens not marked special are matched still, as
 * in the reference, where they are part of the ordinary vocabulary. */
#define NIBBLE_TEXT_PARSE_SPECIAL 1u
/* The tokens that the post-processor adds, BOS and EOS usually, are added. */
#define NIBBLE_TEXT_ADD_SPECIAL 2u
/* No added token is matched, special or not (e.g. <tool_call> or <think> inside a user's text).
 * Overrides PARSE_SPECIAL. Not for Gemma-like files, whose added tokens include "\n\n". */
#define NIBBLE_TEXT_SPELL_ADDED 4u

/* Encodes at most 16 MiB of text; more than 250,000 white-space characters in a row are
 * NIBBLE_TEXT_LIMIT. */
int32_t nibble_tokenizer_encode(const nibble_tokenizer *tokenizer, const uint8_t *text, size_t len,
                                uint32_t flags, nibble_text_ids *out, nibble_text_buffer *error);

/* Decodes at most 16 Mi ids. Bytes that are not UTF-8 become U+FFFD. Ids outside the vocabulary
 * contribute nothing. skip_special leaves out added tokens marked special. */
int32_t nibble_tokenizer_decode(const nibble_tokenizer *tokenizer, const uint32_t *ids,
                                size_t count, int32_t skip_special, nibble_text_buffer *out,
                                nibble_text_buffer *error);

/* The raw bytes that one id contributes to a text, for streaming: they may be part of a UTF-8
 * character. `first` is nonzero when no other id precedes this one (some decoders drop a leading
 * space there). For byte-level, SentencePiece-like (byte fallback, U+2581) and WordPiece decoders
 * without clean-up, the concatenation over a list of ids equals its decoding, up to U+FFFD;
 * other decoders decode the id on its own. Special tokens yield their own text. */
int32_t nibble_tokenizer_token_bytes(const nibble_tokenizer *tokenizer, uint32_t id, int32_t first,
                                     nibble_text_buffer *out, nibble_text_buffer *error);

/* The token as tokenizer.json spells it ("\u0120the", "\u2581the", "<0x0A>"), and back. Unknown
 * ids and tokens are NIBBLE_TEXT_ARGUMENT. */
int32_t nibble_tokenizer_id_to_token(const nibble_tokenizer *tokenizer, uint32_t id,
                                     nibble_text_buffer *out, nibble_text_buffer *error);
int32_t nibble_tokenizer_token_to_id(const nibble_tokenizer *tokenizer, const uint8_t *token,
                                     size_t len, uint32_t *out, nibble_text_buffer *error);

/* The number of distinct ids, and the largest id plus one. They differ when ids have gaps. The
 * latter is up to 2^32 for a hostile file: compare it with the model before allocating by it. */
size_t nibble_tokenizer_vocab_size(const nibble_tokenizer *tokenizer);
uint64_t nibble_tokenizer_id_limit(const nibble_tokenizer *tokenizer);

typedef struct nibble_added_token {
  const uint8_t *content; /* belongs to the tokenizer */
  size_t content_len;
  uint32_t id;
  uint8_t special;
  uint8_t lstrip;
  uint8_t rstrip;
  uint8_t single_word;
  uint8_t normalized;
} nibble_added_token;

/* The added tokens, by ascending id. */
size_t nibble_tokenizer_added_count(const nibble_tokenizer *tokenizer);
int32_t nibble_tokenizer_added_token(const nibble_tokenizer *tokenizer, size_t index,
                                     nibble_added_token *out);

/* ---- Chat templates --------------------------------------------------------------------- */

typedef struct nibble_chat_request {
  /* The Jinja source, at most 256 KiB; the `chat_template` of tokenizer_config.json. */
  const uint8_t *template_text;
  size_t template_len;
  /* A JSON array, at most 32 MiB. Null: the template is compiled only, and the output is empty. */
  const uint8_t *messages;
  size_t messages_len;
  /* A JSON object with the other variables: bos_token, eos_token, add_generation_prompt, tools,
   * documents, enable_thinking, ... Null: none. At most 32 MiB. */
  const uint8_t *variables;
  size_t variables_len;
  /* What strftime_now sees: local civil time in seconds since 1970-01-01 00:00:00, that is,
   * UTC seconds plus the zone's offset. Without has_now: the system clock in UTC. */
  uint8_t has_now;
  int64_t now;
  /* Instructions that may be executed; 0 and anything above the default mean 4,000,000. */
  uint64_t fuel;
  /* Longest output in bytes; 0 means 64 MiB. */
  size_t max_output;
} nibble_chat_request;

/* Renders as Transformers' apply_chat_template does: trim_blocks, lstrip_blocks, loop controls,
 * raise_exception, strftime_now, tojson without HTML escapes, Python's string and dict methods,
 * True/None/list/dict printed as in Python; {% generation %} tags print their content.
 * `line`, if not null, receives the 1-based template line of a failure or 0.
 * Runs on a thread of its own with a stack of known size, and returns when it has ended. */
int32_t nibble_chat_render(const nibble_chat_request *request, nibble_text_buffer *out,
                           uint32_t *line, nibble_text_buffer *error);

/* ---- Grammars --------------------------------------------------------------------------- */

/* The tokens of a tokenizer, arranged for grammars. Immutable; any number of threads may use one
 * at once. It keeps nothing of the tokenizer. */
typedef struct nibble_vocabulary nibble_vocabulary;
/* How far one text has come through a grammar. For one thread at a time; needs no vocabulary any
 * more once it was made. */
typedef struct nibble_matcher nibble_matcher;

/* `rows`: the number of logits, at most 4 Mi. `ends`: the tokens that end a text, one at least. */
int32_t nibble_vocabulary_new(const nibble_tokenizer *tokenizer, size_t rows, const uint32_t *ends,
                              size_t count, nibble_vocabulary **out, nibble_text_buffer *error);
void nibble_vocabulary_free(nibble_vocabulary *vocabulary);

#define NIBBLE_GRAMMAR_JSON_SCHEMA 0
/* Rules in the dialect of llguidance, where %json {...} stands for what a schema allows. */
#define NIBBLE_GRAMMAR_LARK 1

/* Compiles a grammar of at most 256 KiB, which is not trusted. */
int32_t nibble_matcher_new(const nibble_vocabulary *vocabulary, int32_t kind, const uint8_t *text,
                           size_t len, nibble_matcher **out, nibble_text_buffer *error);
/* Another one in the same state, independent of it from now on. */
int32_t nibble_matcher_split(const nibble_matcher *matcher, nibble_matcher **out,
                             nibble_text_buffer *error);
void nibble_matcher_free(nibble_matcher *matcher);

/* Sets bit i % 32 of mask[i / 32] for every token i that may come next, clears all other bits.
 * `count`: words of mask, rows / 32 or more. NIBBLE_TEXT_LIMIT: the grammar takes too long. */
int32_t nibble_matcher_mask(nibble_matcher *matcher, uint32_t *mask, size_t count,
                            nibble_text_buffer *error);
/* Goes on by one allowed token. `complete`: nothing can follow. */
int32_t nibble_matcher_accept(nibble_matcher *matcher, uint32_t token, int32_t *complete,
                              nibble_text_buffer *error);

#ifdef __cplusplus
}
#endif
#endif /* NIBBLE_TEXT_H */
