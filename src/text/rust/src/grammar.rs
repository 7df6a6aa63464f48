//! Grammars that a text must follow: which tokens may come next (through llguidance).

use std::sync::Arc;

use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{ApproximateTokEnv, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie};
use llguidance::ParserFactory;

use crate::error::{Error, Result, Status};
use crate::tokenizer::Tokenizer;

pub const MAX_SOURCE: usize = 256 << 10;
/// Rows of an embedding matrix; the largest vocabularies have a quarter of a million.
pub const MAX_ROWS: usize = 4 << 20;

/// What a grammar is written in.
pub enum Source<'a> {
    JsonSchema(&'a str),
    Lark(&'a str),
}

/// The bytes of all tokens, arranged for looking up which of them a grammar lets through.
pub struct Vocabulary {
    factory: ParserFactory,
    rows: usize,
}

impl Vocabulary {
    /// `rows`: the number of logits. `ends`: the tokens that end a text.
    pub fn new(tokenizer: &Tokenizer, rows: usize, ends: &[u32]) -> Result<Self> {
        let bad = |what| Err(Error::new(Status::Argument, what));
        if rows == 0 || rows > MAX_ROWS {
            return bad(format!("vocabulary: {rows} rows, expected 1 to {MAX_ROWS}"));
        }
        if ends.is_empty() || ends.iter().any(|&id| id as usize >= rows) {
            return bad("vocabulary: no token ends a text, or one outside of it".into());
        }
        let mut words: Vec<Vec<u8>> = (0..rows as u32)
            .map(|id| tokenizer.token_bytes(id, false).unwrap_or_default())
            .collect();
        let control = tokenizer.added().iter().filter(|t| t.special).map(|t| t.id);
        for id in control.chain(ends.iter().copied()).filter(|&id| (id as usize) < rows) {
            let word = &mut words[id as usize];
            if word.first() != Some(&TokTrie::SPECIAL_TOKEN_MARKER) {
                word.insert(0, TokTrie::SPECIAL_TOKEN_MARKER);
            }
        }
        let trie = TokTrie::from(&TokRxInfo::new(rows as u32, ends[0]), &words);
        let env: TokEnv = Arc::new(ApproximateTokEnv::new(trie.with_eos_tokens(ends)));
        let slices = llguidance::earley::SlicedBiasComputer::json_slices();
        let mut factory = ParserFactory::new(&env, InferenceCapabilities::default(), &slices)
            .map_err(|e| Error::new(Status::Internal, e.to_string()))?;
        factory.quiet();
        factory.limits_mut().verbose_errors = false;
        Ok(Self { factory, rows })
    }

    pub fn compile(&self, source: Source) -> Result<Matcher> {
        let (Source::JsonSchema(text) | Source::Lark(text)) = source;
        if text.len() > MAX_SOURCE {
            let message = format!("{} bytes, limit {MAX_SOURCE}", text.len());
            return Err(Error::new(Status::Limit, message));
        }
        let grammar = match source {
            Source::JsonSchema(text) => TopLevelGrammar::from_json_schema(
                serde_json::from_str(text)
                    .map_err(|e| Error::new(Status::Corrupt, e.to_string()))?,
            ),
            Source::Lark(text) => TopLevelGrammar::from_lark(text.to_string()),
        };
        let parser = self.factory.create_parser(grammar);
        let inner = llguidance::Matcher::new(parser);
        match inner.get_error() {
            Some(message) => Err(Error::new(Status::Corrupt, message)),
            None => Ok(Matcher { inner, words: self.rows.div_ceil(32) }),
        }
    }
}

/// How far a text has come through its grammar.
pub struct Matcher {
    inner: llguidance::Matcher,
    words: usize,
}

impl Matcher {
    /// One for another text, from the same state.
    pub fn split(&self) -> Self {
        Self { inner: self.inner.deep_clone(), words: self.words }
    }

    /// Sets bit i of `words` for each token i that may come next, and no others: one at least.
    pub fn mask(&mut self, words: &mut [u32]) -> Result<()> {
        if words.len() < self.words {
            return Err(Error::new(Status::Argument, "mask: too short"));
        }
        let mask = self.inner.compute_mask_or_eos().map_err(failure)?;
        if mask.is_zero() {
            return Err(Error::new(Status::Limit, "no token can follow"));
        }
        // It holds one bit more than there are tokens, which can take a word of its own.
        words.fill(0);
        words.iter_mut().zip(mask.as_slice()).for_each(|(word, bits)| *word = *bits);
        Ok(())
    }

    /// Goes on by one token. True: the text is complete and nothing can follow.
    pub fn accept(&mut self, token: u32) -> Result<bool> {
        self.inner.consume_token(token).map_err(failure)?;
        Ok(self.inner.is_stopped())
    }
}

fn failure(error: impl std::fmt::Display) -> Error {
    Error::new(Status::Limit, error.to_string())
}
