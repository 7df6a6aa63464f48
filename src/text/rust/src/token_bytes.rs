//! The bytes of one token, from the decoder that tokenizer.json declares.
//!
//! Decoders are defined on whole token lists and on text. Streaming needs the bytes of single
//! tokens, which may be part of a UTF-8 character, so the decoder is reduced to steps per token.

use serde_json::Value;

enum Step {
    Replace(Vec<u8>, Vec<u8>),
    /// `<0xAB>` is the byte 0xAB.
    ByteFallback,
    /// Every character stands for one byte.
    ByteLevel,
    /// The mark becomes a space, or nothing in the first token.
    Metaspace(Vec<u8>, bool),
    /// Tokens without the prefix start a word.
    WordPiece(Vec<u8>),
    /// Removes up to n leading characters: of every token, or of the first one only.
    StripStart(Vec<u8>, usize, bool),
    SpaceBetween,
}

pub struct ByteMap {
    /// None when the decoder can't be taken apart.
    steps: Option<Vec<Step>>,
    /// byte_of[c] for the alphabet's characters, all below U+0144.
    byte_of: [Option<u8>; 0x144],
}

impl ByteMap {
    pub fn new(decoder: Option<&Value>) -> Self {
        let steps = match decoder {
            None | Some(Value::Null) => Some(vec![Step::SpaceBetween]),
            Some(value) => {
                let mut steps = Vec::new();
                let mut fused = false;
                collect(value, &mut fused, &mut steps).map(|()| steps)
            }
        };
        Self { steps, byte_of: byte_alphabet() }
    }

    pub fn bytes(&self, token: &str, first: bool) -> Option<Vec<u8>> {
        let mut rv = token.as_bytes().to_vec();
        for step in self.steps.as_ref()? {
            rv = match step {
                Step::Replace(from, to) => replace(&rv, from, to),
                Step::ByteFallback => fallback_byte(&rv).map_or(rv, |b| vec![b]),
                Step::ByteLevel => self.byte_level(&rv).unwrap_or(rv),
                Step::Metaspace(mark, drop_first) => {
                    replace(&rv, mark, if first && *drop_first { b"" } else { b" " })
                }
                Step::WordPiece(_) if first => rv,
                Step::WordPiece(prefix) => match rv.strip_prefix(prefix.as_slice()) {
                    Some(rest) => rest.to_vec(),
                    None => [b" ", rv.as_slice()].concat(),
                },
                Step::StripStart(c, n, every) if first || *every => strip_start(rv, c, *n),
                Step::StripStart(..) => rv,
                Step::SpaceBetween if first => rv,
                Step::SpaceBetween => [b" ", rv.as_slice()].concat(),
            };
        }
        Some(rv)
    }

    fn byte_level(&self, token: &[u8]) -> Option<Vec<u8>> {
        let text = std::str::from_utf8(token).ok()?;
        text.chars().map(|c| self.byte_of.get(c as usize).copied().flatten()).collect()
    }
}

/// Appends the steps of one decoder; None when one of them is not understood.
fn collect(value: &Value, fused: &mut bool, steps: &mut Vec<Step>) -> Option<()> {
    let text = |key: &str| value.get(key).and_then(Value::as_str);
    match text("type")? {
        "Sequence" => {
            for decoder in value.get("decoders")?.as_array()? {
                collect(decoder, fused, steps)?;
            }
        }
        "Replace" => {
            let pattern = value.get("pattern")?.get("String")?.as_str()?;
            steps.push(Step::Replace(pattern.into(), text("content")?.into()));
        }
        "ByteFallback" => steps.push(Step::ByteFallback),
        "ByteLevel" => steps.push(Step::ByteLevel),
        "Fuse" => *fused = true,
        "Metaspace" => {
            let legacy = value.get("add_prefix_space").and_then(Value::as_bool).unwrap_or(true);
            let prepends = text("prepend_scheme").map_or(legacy, |scheme| scheme != "never");
            steps.push(Step::Metaspace(text("replacement")?.into(), prepends));
        }
        "WordPiece" if value.get("cleanup").and_then(Value::as_bool) == Some(false) => {
            steps.push(Step::WordPiece(text("prefix")?.into()));
        }
        "BPEDecoder" => steps.push(Step::Replace(text("suffix")?.into(), b" ".to_vec())),
        "Strip" if value.get("stop").and_then(Value::as_u64) == Some(0) => {
            let n = usize::try_from(value.get("start")?.as_u64()?).ok()?;
            steps.push(Step::StripStart(text("content")?.into(), n, !*fused));
        }
        _ => return None,
    }
    Some(())
}

fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    if from.is_empty() {
        return bytes.to_vec();
    }
    let mut rv = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at..].starts_with(from) {
            rv.extend_from_slice(to);
            at += from.len();
        } else {
            rv.push(bytes[at]);
            at += 1;
        }
    }
    rv
}

fn fallback_byte(token: &[u8]) -> Option<u8> {
    let hex = token.strip_prefix(b"<0x")?.strip_suffix(b">")?;
    if hex.len() != 2 || !hex.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()
}

fn strip_start(mut token: Vec<u8>, c: &[u8], n: usize) -> Vec<u8> {
    let mut cut = 0;
    for _ in 0..n {
        if c.is_empty() || !token[cut..].starts_with(c) {
            break;
        }
        cut += c.len();
    }
    token.drain(..cut);
    token
}

/// GPT-2's alphabet: printable Latin-1 bytes stand for themselves, the others from U+0100 on.
fn byte_alphabet() -> [Option<u8>; 0x144] {
    let mut rv = [None; 0x144];
    let mut next = 0x100;
    for b in 0..=255u8 {
        if matches!(b, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF) {
            rv[usize::from(b)] = Some(b);
        } else {
            rv[next] = Some(b);
            next += 1;
        }
    }
    rv
}
