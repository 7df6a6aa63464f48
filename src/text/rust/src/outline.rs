//! What a tokenizer.json declares around its model, read and bounded before the file is loaded.
//!
//! A hostile file can chain components that multiply the text, so the growth of every chain is
//! bounded here, where the configuration is still plain JSON.

use serde::Deserialize;
use serde_json::Value;

use crate::error::{Error, Result, Status};

/// Bound on text length times growth, in bytes.
pub const MAX_GROWN_TEXT: usize = 1 << 30;
const MAX_GROWTH: usize = 4096;
/// Bounds on the components of one file, and on the sequence pieces of its post-processors.
const MAX_COMPONENTS: usize = 512;
const MAX_PIECES: usize = 16;
/// Bounds on the added tokens, from which the loader builds automata: bytes of one, and bytes of
/// all after their normalization.
const MAX_ADDED: usize = 512;
const MAX_ALL_ADDED: usize = 8 << 20;

#[derive(Deserialize)]
struct DeclaredToken {
    id: u32,
    content: String,
}

#[derive(Deserialize)]
pub struct Outline {
    #[serde(default)]
    added_tokens: Vec<DeclaredToken>,
    #[serde(default)]
    normalizer: Option<Value>,
    #[serde(default)]
    pre_tokenizer: Option<Value>,
    #[serde(default)]
    post_processor: Option<Value>,
    #[serde(default)]
    pub decoder: Option<Value>,
    #[serde(skip)]
    pub growth: usize,
}

impl Outline {
    pub fn read(json: &[u8]) -> Result<Self> {
        let mut rv: Outline =
            serde_json::from_slice(json).map_err(|e| Error::new(Status::Corrupt, e.to_string()))?;
        let mut input = Growth::default();
        rv.normalizer.iter().for_each(|v| input.visit(v));
        rv.pre_tokenizer.iter().for_each(|v| input.visit(v));
        let mut output = Growth::default();
        rv.decoder.iter().for_each(|v| output.visit(v));
        rv.post_processor.iter().for_each(|v| output.visit(v));
        if input.factor.max(output.factor) > MAX_GROWTH
            || input.components.max(output.components) > MAX_COMPONENTS
            || output.pieces > MAX_PIECES
        {
            return Err(Error::new(Status::Limit, "its components multiply the text"));
        }
        let lengths = || rv.added_tokens.iter().map(|t| t.content.len());
        let all: usize = lengths().sum();
        if lengths().any(|len| len > MAX_ADDED) || all.saturating_mul(input.factor) > MAX_ALL_ADDED
        {
            return Err(Error::new(Status::Limit, "its added tokens are too long"));
        }
        rv.growth = input.factor;
        Ok(rv)
    }

    /// The loader renumbers added tokens silently; an id that differs from the file is an error.
    pub fn check_added(&self, lookup: impl Fn(&str) -> Option<u32>) -> Result<()> {
        for token in self.added_tokens.iter().filter(|t| !t.content.is_empty()) {
            match lookup(&token.content) {
                Some(id) if id == token.id => {}
                got => {
                    let message = format!(
                        "added token '{}' is declared with id {} but gets {}",
                        token.content.escape_debug(),
                        token.id,
                        got.map_or("none".into(), |id| id.to_string()),
                    );
                    return Err(Error::new(Status::Corrupt, message));
                }
            }
        }
        Ok(())
    }
}

struct Growth {
    factor: usize,
    components: usize,
    pieces: usize,
}

impl Default for Growth {
    fn default() -> Self {
        Self { factor: 1, components: 0, pieces: 0 }
    }
}

impl Growth {
    /// Recursion is bounded by the depth limit of the JSON parser.
    fn visit(&mut self, value: &Value) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| self.visit(item)),
            Value::Object(map) => {
                if let Some(Value::String(kind)) = map.get("type") {
                    self.components += 1;
                    self.factor = self.factor.saturating_mul(factor(kind, map));
                }
                self.pieces += usize::from(map.contains_key("Sequence"));
                map.values().for_each(|item| self.visit(item));
            }
            _ => {}
        }
    }
}

fn factor(kind: &str, map: &serde_json::Map<String, Value>) -> usize {
    let text = |key: &str| map.get(key).and_then(Value::as_str).unwrap_or("");
    match kind {
        "Replace" => {
            let content = text("content").len();
            let pattern = map.get("pattern");
            match pattern.and_then(|p| p.get("String")).and_then(Value::as_str) {
                Some(p) if !p.is_empty() => content.div_ceil(p.len()).max(1),
                Some(_) => content + 1,
                None => {
                    let regex = pattern.and_then(|p| p.get("Regex")).and_then(Value::as_str);
                    let may_be_empty =
                        regex.is_none_or(|r| r.contains(['*', '?', '|', '^', '$', '\\', '0']));
                    if content > 0 && may_be_empty {
                        content + 1
                    } else {
                        content.max(1)
                    }
                }
            }
        }
        "Prepend" => text("prepend").len() + 1,
        "ByteLevel" => 2,
        "Precompiled" => longest_replacement(text("precompiled_charsmap")).max(1),
        _ => 1,
    }
}

/// Longest replacement of a SentencePiece charsmap: u32 trie size, trie, NUL-terminated strings.
fn longest_replacement(base64: &str) -> usize {
    let bytes = decode_base64(base64);
    let Some(size) = bytes.first_chunk::<4>() else { return 0 };
    let start = (u32::from_le_bytes(*size) as usize).saturating_add(4);
    let strings = bytes.get(start..).unwrap_or(&[]);
    strings.split(|b| *b == 0).map(<[u8]>::len).max().unwrap_or(0)
}

fn decode_base64(text: &str) -> Vec<u8> {
    let (mut bits, mut count) = (0u32, 0);
    let mut rv = Vec::with_capacity(text.len() / 4 * 3);
    for c in text.bytes() {
        let digit = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => continue,
        };
        bits = (bits << 6) | u32::from(digit);
        count += 6;
        if count >= 8 {
            count -= 8;
            rv.push((bits >> count) as u8);
        }
    }
    rv
}
