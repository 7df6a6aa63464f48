//! A tokenizer.json file: encode, decode, and the bytes that one token stands for.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokenizers::models::{ModelWrapper, TrainerWrapper};
use tokenizers::{
    AddedVocabulary, DecoderWrapper, Model, NormalizerWrapper, PostProcessorWrapper,
    PreTokenizerWrapper, Token, TokenizerImpl,
};

use crate::error::{Error, Result, Status};
use crate::outline::{Outline, MAX_GROWN_TEXT};
use crate::token_bytes::ByteMap;

/// Longest text of one `encode` call and longest id list of one `decode` call.
pub const MAX_TEXT: usize = 16 << 20;
pub const MAX_IDS: usize = 16 << 20;
/// Longest run of white space. fancy-regex gives up after a million steps of backtracking, which
/// `\s+(?!\S)` reaches on such runs, and the pre-tokenizer then takes the rest as one word.
const MAX_SPACES: usize = 250_000;
/// Longest token of a vocabulary, in bytes.
const MAX_TOKEN: usize = 4096;

/// Added tokens with `special: true` are matched in the text.
pub const PARSE_SPECIAL: u32 = 1;
/// The post-processor's tokens (BOS, EOS) are added.
pub const ADD_SPECIAL: u32 = 2;
/// No added token at all is matched, not even those with `special: false`.
pub const SPELL_ADDED: u32 = 4;

type Impl<M> =
    TokenizerImpl<M, NormalizerWrapper, PreTokenizerWrapper, PostProcessorWrapper, DecoderWrapper>;

/// One model shared by pipelines that differ in their added vocabulary.
struct SharedModel(Arc<Impl<ModelWrapper>>);

impl Model for SharedModel {
    type Trainer = TrainerWrapper;

    fn tokenize(&self, sequence: &str) -> tokenizers::Result<Vec<Token>> {
        self.0.get_model().tokenize(sequence)
    }
    fn token_to_id(&self, token: &str) -> Option<u32> {
        self.0.get_model().token_to_id(token)
    }
    fn id_to_token(&self, id: u32) -> Option<String> {
        self.0.get_model().id_to_token(id)
    }
    fn get_vocab(&self) -> HashMap<String, u32> {
        self.0.get_model().get_vocab()
    }
    fn get_vocab_size(&self) -> usize {
        self.0.get_model().get_vocab_size()
    }
    fn save(&self, _: &Path, _: Option<&str>) -> tokenizers::Result<Vec<PathBuf>> {
        Err("a shared model is not saved".into())
    }
    fn get_trainer(&self) -> TrainerWrapper {
        self.0.get_model().get_trainer()
    }
}

pub struct AddedToken {
    pub id: u32,
    pub content: String,
    pub special: bool,
    pub lstrip: bool,
    pub rstrip: bool,
    pub single_word: bool,
    pub normalized: bool,
}

pub struct Tokenizer {
    /// Matches every added token.
    full: Arc<Impl<ModelWrapper>>,
    /// Spells special tokens, matches the other added ones.
    plain: Impl<SharedModel>,
    /// Matches no added token.
    spelled: Impl<SharedModel>,
    added: Vec<AddedToken>,
    bytes: ByteMap,
    vocab_size: usize,
    id_limit: u64,
    /// Bound on how many times longer the normalizers can make a text.
    growth: usize,
}

impl Tokenizer {
    /// Reads the bytes of a tokenizer.json file, which are not trusted.
    pub fn load(json: &[u8]) -> Result<Self> {
        let outline = Outline::read(json)?;
        of_file(|| Self::build(json, outline))
    }

    fn build(json: &[u8], outline: Outline) -> Result<Self> {
        let mut full: Impl<ModelWrapper> =
            serde_json::from_slice(json).map_err(|e| corrupt(e.to_string()))?;
        full.with_padding(None);
        full.with_truncation(None).map_err(|e| corrupt(e.to_string()))?;
        if let ModelWrapper::BPE(bpe) = full.get_model() {
            if bpe.dropout.is_some() {
                let mut bpe = bpe.clone();
                bpe.dropout = None;
                full.with_model(bpe);
            }
        }
        let (vocab_size, id_limit) = check_vocabulary(&full)?;
        outline.check_added(|content| full.token_to_id(content))?;

        let full = Arc::new(full);
        let mut plain_vocab = full.get_added_vocabulary().clone();
        plain_vocab.set_encode_special_tokens(true);
        Ok(Self {
            plain: variant(&full, plain_vocab),
            spelled: variant(&full, AddedVocabulary::new()),
            added: added_tokens(&full),
            bytes: ByteMap::new(outline.decoder.as_ref()),
            vocab_size,
            id_limit,
            growth: outline.growth,
            full,
        })
    }

    pub fn encode(&self, text: &str, flags: u32) -> Result<Vec<u32>> {
        if flags & !(PARSE_SPECIAL | ADD_SPECIAL | SPELL_ADDED) != 0 {
            return Err(Error::new(Status::Argument, format!("encode: unknown flags {flags:#x}")));
        }
        let limit = MAX_TEXT.min(MAX_GROWN_TEXT / self.growth);
        if text.len() > limit {
            let message = format!("encode: text of {} bytes, limit {limit}", text.len());
            return Err(Error::new(Status::Argument, message));
        }
        if text.len() > MAX_SPACES && longest_space(text) > MAX_SPACES {
            let message = format!("encode: more than {MAX_SPACES} white-space characters in a row");
            return Err(Error::new(Status::Limit, message));
        }
        let add = flags & ADD_SPECIAL != 0;
        let encode = || {
            if flags & SPELL_ADDED != 0 {
                self.spelled.encode_fast(text, add)
            } else if flags & PARSE_SPECIAL != 0 {
                self.full.encode_fast(text, add)
            } else {
                self.plain.encode_fast(text, add)
            }
        };
        let encoding = of_file(|| encode().map_err(|e| corrupt(format!("encode: {e}"))))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Ids outside the vocabulary contribute nothing, as in the reference.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String> {
        if ids.len() > MAX_IDS {
            let message = format!("decode: {} ids, limit {MAX_IDS}", ids.len());
            return Err(Error::new(Status::Argument, message));
        }
        if ids.is_empty() {
            return Ok(String::new());
        }
        let decode = || self.full.decode(ids, skip_special);
        of_file(|| decode().map_err(|e| corrupt(format!("decode: {e}"))))
    }

    /// The bytes that `id` contributes to a decoded text; `first` when nothing precedes it.
    pub fn token_bytes(&self, id: u32, first: bool) -> Result<Vec<u8>> {
        let token = self.id_to_token(id).ok_or_else(|| unknown_id(id))?;
        match self.bytes.bytes(&token, first) {
            Some(bytes) => Ok(bytes),
            None => self.decode(&[id], false).map(String::into_bytes),
        }
    }

    pub fn id_to_token(&self, id: u32) -> Option<String> {
        self.full.id_to_token(id)
    }

    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.full.token_to_id(token)
    }

    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    pub fn id_limit(&self) -> u64 {
        self.id_limit
    }

    pub fn added(&self) -> &[AddedToken] {
        &self.added
    }
}

fn longest_space(text: &str) -> usize {
    let runs = text.split(|c: char| !c.is_whitespace());
    runs.map(|run| run.chars().count()).max().unwrap_or(0)
}

fn corrupt(message: String) -> Error {
    Error::new(Status::Corrupt, message)
}

/// The tokenizers crate panics on some files that contradict themselves, such as a table of
/// characters that points outside itself: that is the file's fault.
fn of_file<T>(f: impl FnOnce() -> Result<T>) -> Result<T> {
    Error::catch(Status::Corrupt, "the tokenizers library fails on it", f)
}

fn unknown_id(id: u32) -> Error {
    Error::new(Status::Argument, format!("token id {id} is not in the vocabulary"))
}

/// Returns the number of distinct ids and the largest id plus one.
fn check_vocabulary(full: &Impl<ModelWrapper>) -> Result<(usize, u64)> {
    let vocab = full.get_vocab(true);
    let mut ids = Vec::with_capacity(vocab.len());
    for (token, id) in vocab {
        if token.len() > MAX_TOKEN {
            return Err(corrupt(format!(
                "token {id} has {} bytes, limit {MAX_TOKEN}",
                token.len()
            )));
        }
        ids.push(id);
    }
    ids.sort_unstable();
    ids.dedup();
    Ok((ids.len(), ids.last().map_or(0, |id| u64::from(*id) + 1)))
}

fn variant(full: &Arc<Impl<ModelWrapper>>, added: AddedVocabulary) -> Impl<SharedModel> {
    let mut rv = Impl::<SharedModel>::new(SharedModel(full.clone()));
    rv.with_normalizer(full.get_normalizer().cloned());
    rv.with_pre_tokenizer(full.get_pre_tokenizer().cloned());
    rv.with_post_processor(full.get_post_processor().cloned());
    rv.with_added_vocabulary(added);
    rv
}

fn added_tokens(full: &Impl<ModelWrapper>) -> Vec<AddedToken> {
    let mut rv: Vec<AddedToken> = full
        .get_added_vocabulary()
        .get_added_tokens_decoder()
        .iter()
        .map(|(id, token)| AddedToken {
            id: *id,
            content: token.content.clone(),
            special: token.special,
            lstrip: token.lstrip,
            rstrip: token.rstrip,
            single_word: token.single_word,
            normalized: token.normalized,
        })
        .collect();
    rv.sort_by_key(|token| token.id);
    rv
}
