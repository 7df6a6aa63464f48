//! Tokenizer files: round trips, and files that attack the process.

use nibble_text::error::{Error, Status};
use nibble_text::tokenizer::{Tokenizer, ADD_SPECIAL, PARSE_SPECIAL, SPELL_ADDED};
use serde_json::{json, Value};

/// A byte-level BPE of the 256 bytes, one merge, and added tokens.
fn byte_level() -> Value {
    let mut vocab = serde_json::Map::new();
    let mut other = 0x100u32;
    for b in 0..=255u8 {
        let own = matches!(b, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
        let c = if own { u32::from(b) } else { other };
        other += u32::from(!own);
        vocab.insert(char::from_u32(c).unwrap().to_string(), json!(b));
    }
    vocab.insert("ab".into(), json!(256));
    let added = |id: u32, content: &str, special: bool| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false,
               "rstrip": false, "normalized": false, "special": special})
    };
    let level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
                       "use_regex": true});
    json!({"version": "1.0", "truncation": null, "padding": null, "normalizer": null,
        "added_tokens": [added(257, "<s>", true), added(258, "<tool>", false)],
        "pre_tokenizer": level, "decoder": level,
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
                       {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}},
                     {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [257], "tokens": ["<s>"]}}},
        "model": {"type": "BPE", "dropout": null, "unk_token": null,
            "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": false,
            "byte_fallback": false, "ignore_merges": false, "vocab": vocab,
            "merges": [["a", "b"]]}})
}

fn load(doc: &Value) -> Result<Tokenizer, Error> {
    Tokenizer::load(doc.to_string().as_bytes())
}

#[test]
fn added_tokens_and_flags() {
    let t = load(&byte_level()).unwrap();
    assert_eq!((t.vocab_size(), t.id_limit()), (259, 259));
    assert_eq!(t.encode("ab<s>", PARSE_SPECIAL | ADD_SPECIAL).unwrap(), [257, 256, 257]);
    assert_eq!(t.encode("ab<s>", ADD_SPECIAL).unwrap(), [257, 256, 60, 115, 62]);
    assert_eq!(t.encode("<tool>", 0).unwrap(), [258]);
    let spelled: Vec<u32> = "<tool>".bytes().map(u32::from).collect();
    assert_eq!(t.encode("<tool>", SPELL_ADDED).unwrap(), spelled);
    assert_eq!(t.encode("<tool>", SPELL_ADDED | PARSE_SPECIAL).unwrap(), spelled);
    assert_eq!(t.encode("", 0).unwrap(), Vec::<u32>::new());
    let spaces = t.encode(&(" ".repeat(250_001) + "x"), 0);
    assert_eq!(spaces.unwrap_err().status, Status::Limit);
    assert!(t.encode(&(" ".repeat(250_000) + "x"), 0).is_ok());
    assert_eq!(t.encode("a", 8).unwrap_err().status, Status::Argument);
    assert_eq!(t.decode(&[257, 256], true).unwrap(), "ab");
    assert_eq!(t.decode(&[257, 256, 999], false).unwrap(), "<s>ab");
    assert_eq!(t.decode(&[0xC3], false).unwrap(), "\u{fffd}");
    assert_eq!(t.token_bytes(0xC3, false).unwrap(), [0xC3]);
    assert_eq!(t.token_bytes(258, false).unwrap(), b"<tool>");
    assert_eq!(t.token_bytes(259, false).unwrap_err().status, Status::Argument);
    assert_eq!(t.added().len(), 2);
}

#[test]
fn every_byte_survives() {
    let t = load(&byte_level()).unwrap();
    let text: String = (0..0x3000u32).filter_map(char::from_u32).collect();
    let ids = t.encode(&text, 0).unwrap();
    let bytes: Vec<u8> = ids.iter().flat_map(|id| t.token_bytes(*id, false).unwrap()).collect();
    assert_eq!(String::from_utf8(bytes).unwrap(), text);
    assert_eq!(t.decode(&ids, false).unwrap(), text);
}

#[test]
fn threads_share_a_tokenizer() {
    let t = load(&byte_level()).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for i in 0..500 {
                    let text = format!("ab {i} <s> é");
                    let ids = t.encode(&text, PARSE_SPECIAL).unwrap();
                    assert_eq!(t.decode(&ids, false).unwrap(), text);
                }
            });
        }
    });
}

/// Replaces the value at a JSON pointer.
fn with(pointer: &str, value: Value) -> Value {
    let mut doc = byte_level();
    *doc.pointer_mut(pointer).unwrap() = value;
    doc
}

#[test]
fn contradictions_are_refused() {
    for (pointer, value) in [
        ("/added_tokens/1/id", json!(300)),
        ("/added_tokens/1/id", json!(4_294_967_295u32)),
        ("/added_tokens/1/id", json!(-1)),
        ("/added_tokens/1/content", json!("<s>")),
        ("/model/merges", json!([["a", "zz"]])),
        ("/model/merges", json!([["a"]])),
        ("/model/merges", json!(["a b c"])),
        ("/model/vocab/ab", json!(-5)),
        ("/model/vocab/ab", json!("x")),
        ("/model/type", json!("Nope")),
        ("/model", json!(null)),
        ("/version", json!("9.9")),
        ("/decoder", json!(7)),
        ("/decoder/type", json!("Nope")),
        ("/model/dropout", json!(7.5)),
    ] {
        let e = load(&with(pointer, value)).err().unwrap_or_else(|| panic!("{pointer}"));
        assert_ne!(e.status, Status::Ok);
    }
}

/// Files on which the tokenizers crate panics: while it loads, and once there is a text.
#[test]
fn panics_are_the_files_fault() {
    let table = |bytes: &str| json!({"type": "Precompiled", "precompiled_charsmap": bytes});
    let fails = |e: Error| {
        assert_eq!(e.status, Status::Corrupt);
        assert!(e.message.starts_with("the tokenizers library fails on it: "), "{}", e.message);
    };
    fails(load(&with("/normalizer", table("AQ=="))).err().unwrap());
    // A trie of no entries, which is looked into at its first.
    let t = load(&with("/normalizer", table("AAAAAA=="))).unwrap();
    fails(t.encode("a", 0).unwrap_err());
    assert_eq!(t.decode(&[97], false).unwrap(), "a");
}

#[test]
fn growth_is_bounded() {
    let grow = json!({"type": "Replace", "pattern": {"String": "a"}, "content": "aaaaaaaa"});
    let chain = |n| json!({"type": "Sequence", "normalizers": vec![grow.clone(); n]});
    // Three steps grow a text 512 times, the byte-level pre-tokenizer doubles that.
    let t = load(&with("/normalizer", chain(3))).unwrap();
    assert_eq!(t.encode(&"a".repeat(2 << 20), 0).unwrap_err().status, Status::Argument);
    assert_eq!(load(&with("/normalizer", chain(4))).err().unwrap().status, Status::Limit);
    let level = json!({"type": "ByteLevel"});
    let levels = json!({"type": "Sequence", "normalizers": vec![level; 40]});
    assert_eq!(load(&with("/normalizer", levels)).err().unwrap().status, Status::Limit);
    let copies = vec![json!({"Sequence": {"id": "A", "type_id": 0}}); 100];
    assert!(load(&with("/post_processor/single", json!(copies))).is_err());
    let long = with("/added_tokens/0/content", json!("x".repeat(100_000)));
    assert!(load(&long).is_err());
    // Padding and truncation are not applied.
    let padding = json!({"strategy": {"Fixed": 1u64 << 60}, "direction": "Right",
        "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0, "pad_token": "x"});
    assert_eq!(load(&with("/padding", padding)).unwrap().encode("a", 0).unwrap().len(), 1);
    let truncation = json!({"direction": "Right", "max_length": 1, "strategy": "LongestFirst",
        "stride": 0});
    assert_eq!(load(&with("/truncation", truncation)).unwrap().encode("xyz", 0).unwrap().len(), 3);
}

#[test]
fn broken_json_is_refused() {
    let text = byte_level().to_string();
    for cut in (0..text.len()).step_by(97) {
        assert!(Tokenizer::load(&text.as_bytes()[..cut]).is_err());
    }
    for deep in ["[".repeat(1 << 20), "{\"normalizer\":".repeat(1 << 18)] {
        assert!(Tokenizer::load(deep.as_bytes()).is_err());
    }
    assert!(Tokenizer::load(&[0xFF, 0xFE, 0]).is_err());
    let mut nested = json!({"type": "Fuse"});
    for _ in 0..50 {
        nested = json!({"type": "Sequence", "decoders": [nested]});
    }
    let _ = load(&with("/decoder", nested));
}
