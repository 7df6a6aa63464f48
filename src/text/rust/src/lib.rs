//! Tokenizers and chat templates for nibble. C callers: see include/nibble_text.h.

pub mod chat;
pub mod error;
pub mod ffi;
mod outline;
mod token_bytes;
pub mod tokenizer;
