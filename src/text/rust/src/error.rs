//! Status codes of the C ABI and the error type behind them.

use std::cell::Cell;
use std::fmt;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::Once;

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

    /// Runs `f`; its panic prints nothing and becomes an error with `status`, whose message begins
    /// with `what`.
    pub(crate) fn catch<T>(status: Status, what: &str, f: impl FnOnce() -> Result<T>) -> Result<T> {
        quietly(|| catch_unwind(AssertUnwindSafe(f)))
            .unwrap_or_else(|panic| Err(Self::new(status, panic_message(panic)).context(what)))
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

thread_local! {
    static QUIET: Cell<u32> = const { Cell::new(0) };
}

/// Runs `f` without the message that a panic prints on stderr.
pub(crate) fn quietly<T>(f: impl FnOnce() -> T) -> T {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if QUIET.with(Cell::get) == 0 {
                previous(info);
            }
        }));
    });
    struct Leave;
    impl Drop for Leave {
        fn drop(&mut self) {
            QUIET.with(|q| q.set(q.get() - 1));
        }
    }
    QUIET.with(|q| q.set(q.get() + 1));
    let _leave = Leave;
    f()
}

fn panic_message(panic: Box<dyn std::any::Any + Send>) -> String {
    match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => match panic.downcast::<&'static str>() {
            Ok(text) => (*text).to_owned(),
            Err(panic) => {
                // The destructor of an unknown payload is foreign code and may itself panic.
                std::mem::forget(panic);
                "unknown".to_owned()
            }
        },
    }
}
