//! Tokenizers, chat templates and grammars for nibble. C callers: see include/nibble_text.h.

pub mod chat;
pub mod error;
pub mod ffi;
pub mod grammar;
mod outline;
mod token_bytes;
pub mod tokenizer;
