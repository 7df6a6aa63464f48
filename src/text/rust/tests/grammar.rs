//! Grammars over the vocabulary of bytes and a few words.

use nibble_text::error::Status;
use nibble_text::grammar::{Matcher, Source, Vocabulary};
use nibble_text::tokenizer::Tokenizer;

const END: u32 = 3;

/// Tokens 0 to 2 are words, 3 is <end>.
fn vocabulary(rows: usize) -> Vocabulary {
    let json = r#"{"version": "1.0", "added_tokens": [
        {"id": 3, "content": "<end>", "special": true, "single_word": false, "lstrip": false,
         "rstrip": false, "normalized": false}],
      "normalizer": null, "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false,
        "trim_offsets": true, "use_regex": true},
      "post_processor": null, "decoder": {"type": "ByteLevel", "add_prefix_space": true,
        "trim_offsets": true, "use_regex": true},
      "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
        "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
        "vocab": {"{": 0, "}": 1, "x": 2}, "merges": []}}"#;
    let tokenizer = Tokenizer::load(json.as_bytes()).unwrap();
    Vocabulary::new(&tokenizer, rows, &[END]).unwrap()
}

fn allowed(matcher: &mut Matcher) -> Vec<u32> {
    let mut words = [u32::MAX; 2];
    matcher.mask(&mut words).unwrap();
    (0..64).filter(|i| words[i / 32] >> (i % 32) & 1 == 1).map(|i| i as u32).collect()
}

#[test]
fn only_what_the_schema_allows_may_come() {
    let mut matcher = vocabulary(4)
        .compile(Source::JsonSchema(r#"{"type": "object", "maxProperties": 0}"#))
        .unwrap();
    assert_eq!(allowed(&mut matcher), [0]);
    assert!(!matcher.accept(0).unwrap());
    let mut other = matcher.split();
    assert_eq!(allowed(&mut matcher), [1]);
    assert!(matcher.accept(1).unwrap());
    assert_eq!(allowed(&mut matcher), [END]);
    assert_eq!(allowed(&mut other), [1]);
}

#[test]
fn what_may_end_may_end() {
    let mut matcher = vocabulary(40).compile(Source::Lark("start: \"x\"+")).unwrap();
    assert_eq!(allowed(&mut matcher), [2]);
    assert!(!matcher.accept(2).unwrap());
    assert_eq!(allowed(&mut matcher), [2, END]);
}

#[test]
fn a_mask_has_no_more_words_than_the_vocabulary() {
    let mut matcher = vocabulary(32).compile(Source::Lark("start: \"x\"")).unwrap();
    let mut words = [0; 1];
    matcher.mask(&mut words).unwrap();
    assert_eq!(words[0], 1 << 2);
    assert!(matcher.mask(&mut []).is_err());
}

#[test]
fn forbidden_tokens_are_refused() {
    let mut matcher = vocabulary(4).compile(Source::Lark("start: \"x\"")).unwrap();
    assert!(matcher.accept(0).is_err());
}

#[test]
fn bad_grammars_are_refused() {
    let words = vocabulary(4);
    let refused = |source: Source| words.compile(source).map(|_| ()).unwrap_err().status;
    assert_eq!(refused(Source::JsonSchema("{")), Status::Corrupt);
    assert_eq!(refused(Source::JsonSchema("{\"type\": 5}")), Status::Corrupt);
    assert_eq!(refused(Source::JsonSchema("{\"$ref\": \"http://a/b\"}")), Status::Corrupt);
    assert_eq!(refused(Source::JsonSchema("false")), Status::Corrupt);
    assert_eq!(refused(Source::Lark("start: other")), Status::Corrupt);
    assert_eq!(refused(Source::JsonSchema(&"[".repeat(100_000))), Status::Corrupt);
    assert_eq!(refused(Source::JsonSchema(&" ".repeat(1 << 20))), Status::Limit);
}
