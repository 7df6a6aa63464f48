//! Status codes of the C ABI and the error type behind them.

use std::fmt;

/// Mirrors `nibble_text_status` in nibble_text.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Status {
    Ok = 0,
    /// Null pointer, text that is not UTF-8, unknown id, input beyond a documented limit.
    Argument = 1,
    /// tokenizer.json, a JSON argument or a template that does not parse or contradicts itself.
    Corrupt = 2,
    /// Well-formed, but outside what this library executes.
    Unsupported = 3,
    /// A fuel, memory, depth or output limit was reached.
    Limit = 4,
    /// The template called `raise_exception`; the message is the template's own.
    Raised = 5,
    /// The template failed while rendering.
    Render = 6,
    /// A bug or panic inside this library or its dependencies.
    Internal = 7,
}

#[derive(Clone, Debug)]
pub struct Error {
    pub status: Status,
    pub message: String,
    /// 1-based template line, 0 when unknown.
    pub line: u32,
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub fn new(status: Status, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), line: 0 }
    }

    pub fn context(mut self, what: &str) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
