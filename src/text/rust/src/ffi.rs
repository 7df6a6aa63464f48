//! The C ABI of include/nibble_text.h. No panic crosses it.

use std::ffi::c_char;

use crate::chat;
use crate::error::{Error, Result, Status};
use crate::grammar::{Matcher, Source, Vocabulary};
use crate::tokenizer::Tokenizer;

#[repr(C)]
pub struct Buffer {
    data: *mut u8,
    len: usize,
}

#[repr(C)]
pub struct Ids {
    data: *mut u32,
    len: usize,
}

#[repr(C)]
pub struct AddedToken {
    content: *const u8,
    content_len: usize,
    id: u32,
    special: u8,
    lstrip: u8,
    rstrip: u8,
    single_word: u8,
    normalized: u8,
}

#[repr(C)]
pub struct ChatRequest {
    template_text: *const u8,
    template_len: usize,
    messages: *const u8,
    messages_len: usize,
    variables: *const u8,
    variables_len: usize,
    has_now: u8,
    now: i64,
    fuel: u64,
    max_output: usize,
}

/// Runs the body of a C function; failures and panics become a status and a message.
fn guarded(error: *mut Buffer, line: *mut u32, body: impl FnOnce() -> Result<()>) -> i32 {
    // SAFETY: the caller passes null or pointers to writable objects.
    unsafe {
        write(error, Buffer::empty());
        write(line, 0);
    }
    let Err(failed) = Error::catch(Status::Internal, "panic", body) else {
        return Status::Ok as i32;
    };
    // SAFETY: as above.
    unsafe {
        write(line, failed.line);
        if !error.is_null() {
            error.write(Buffer::new(failed.message.into_bytes()));
        }
    }
    failed.status as i32
}

unsafe fn write<T>(to: *mut T, value: T) {
    if !to.is_null() {
        to.write(value);
    }
}

impl Buffer {
    fn empty() -> Self {
        Self { data: std::ptr::null_mut(), len: 0 }
    }

    /// Never hands out null for success, so that empty text is not mistaken for no text.
    fn new(bytes: Vec<u8>) -> Self {
        let len = bytes.len();
        let data = Box::into_raw(bytes.into_boxed_slice()).cast();
        Self { data, len }
    }
}

unsafe fn bytes<'a>(what: &str, data: *const u8, len: usize) -> Result<&'a [u8]> {
    if len == 0 {
        return Ok(&[]);
    }
    if data.is_null() || len > isize::MAX as usize {
        return Err(Error::new(Status::Argument, format!("{what}: null or too long")));
    }
    Ok(std::slice::from_raw_parts(data, len))
}

unsafe fn text<'a>(what: &str, data: *const u8, len: usize) -> Result<&'a str> {
    std::str::from_utf8(bytes(what, data, len)?).map_err(|e| {
        Error::new(Status::Argument, format!("{what}: not UTF-8 at byte {}", e.valid_up_to()))
    })
}

unsafe fn tokenizer<'a>(handle: *const Tokenizer) -> Result<&'a Tokenizer> {
    handle.as_ref().ok_or_else(|| Error::new(Status::Argument, "tokenizer: null"))
}

unsafe fn matcher<'a>(handle: *mut Matcher) -> Result<&'a mut Matcher> {
    handle.as_mut().ok_or_else(|| Error::new(Status::Argument, "matcher: null"))
}

unsafe fn words<'a>(data: *const u32, count: usize) -> Result<&'a [u32]> {
    if count == 0 {
        return Ok(&[]);
    }
    if data.is_null() || count > crate::tokenizer::MAX_IDS {
        return Err(Error::new(Status::Argument, "ids: null or too many"));
    }
    Ok(std::slice::from_raw_parts(data, count))
}

unsafe fn release<T>(handle: *mut T) {
    guarded(std::ptr::null_mut(), std::ptr::null_mut(), || {
        if !handle.is_null() {
            drop(Box::from_raw(handle));
        }
        Ok(())
    });
}

unsafe fn output<T>(out: *mut T, initial: T) -> Result<&'static mut T> {
    if out.is_null() {
        return Err(Error::new(Status::Argument, "output: null"));
    }
    out.write(initial);
    Ok(&mut *out)
}

/// # Safety
/// See nibble_text.h; this holds for every function below.
#[no_mangle]
pub unsafe extern "C" fn nibble_tokenizer_load(
    json: *const u8,
    len: usize,
    out: *mut *mut Tokenizer,
    error: *mut Buffer,
) -> i32 {
    guarded(error, std::ptr::null_mut(), || {
        let out = output(out, std::ptr::null_mut())?;
        *out = Box::into_raw(Box::new(Tokenizer::load(bytes("json", json, len)?)?));
        Ok(())
    })
}

/// # Safety
/// See nibble_text.h.
#[no_mangle]
pub unsafe extern "C" fn nibble_tokenizer_free(handle: *mut Tokenizer) {
    release(handle);
}

/// # Safety
/// See nibble_text.h.
#[no_mangle]
pub unsafe extern "C" fn nibble_tokenizer_encode(
    handle: *const Tokenizer,
    data: *const u8,
    len: usize,
    flags: u32,
    out: *mut Ids,
    error: *mut Buffer,
) -> i32 {
    guarded(error, std::ptr::null_mut(), || {
        let out = output(out, Ids { data: std::ptr::null_mut(), len: 0 })?;
        let ids = tokenizer(handle)?.encode(text("text", data, len)?, flags)?;
        let len = ids.len();
        *out = Ids { data: Box::into_raw(ids.into_boxed_slice()).cast(), len };
        Ok(())
    })
}

/// # Safety
/// See nibble_text.h.
#[no_mangle]
pub unsafe extern "C" fn nibble_tokenizer_decode(
    handle: *const Tokenizer,
    ids: *const u32,
    count: usize,
    skip_special: i32,
    out: *mut Buffer,
    error: *mut Buffer,
) -> i32 {
    guarded(error, std::ptr::null_mut(), || {
        let out = output(out, Buffer::empty())?;
        let ids = words(ids, count)?;
        *out = Buffer::new(tokenizer(handle)?.decode(ids, skip_special != 0)?.into_bytes());
        Ok(())
    })
}

/// # Safety
/// See nibble_text.h.
#[no_mangle]
pub unsafe extern "C" fn nibble_tokenizer_token_bytes(
    handle: *const Tokenizer,
    id: u32,
    first: i32,
    out: *mut Buffer,
    error: *mut Buffer,
) -> i32 {
    guarded(error, std::ptr::null_mut(), || {
        let out = output(out, Buffer::empty())?;
        *out = Buffer::new(tokenizer(handle)?.token_bytes(id, first != 0)?);
        Ok(())
    })
}

/// # Safety
/// See nibble_text.h.
#[no_mangle]
pub unsafe extern "C" fn nibble_tokenizer_id_to_token(
    handle: *const Tokenizer,
    id: u32,
    out: *mut Buffer,
    error: *mut Buffer,
) -> i32 {
    guarded(error, std::ptr::null_mut(), || {
        let out = output(out, Buffer::empty())?;
        let token = tokenizer(handle)?.id_to_token(id);
        let token = token.ok_or_else(|| Error::new(Status::Argument, format!("no token {id}")))?;
        *out = Buffer::new(token.into_bytes());
        Ok(())
    })
}

/// # Safety
/// See nibble_text.h.
#[no_mangle]
pub unsafe extern "C" fn nibble_tokenizer_token_to_id(
    handle: *const Tokenizer,
    data: *const u8,
    len: usize,
    out: *mut u32,
    error: *mut Buffer,
) -> i32 {
    guarded(error, std::ptr::null_mut(), || {
        let out = output(out, 0)?;
        let id = tokenizer(handle)?.token_to_id(text("token", data, len)?);
        *out = id.ok_or_else(|| Error::new(Status::Argument, "no such token"))?;
        Ok(())
    })
}

/// # Safety
/// See nibble_text.h.
#[no_mangle]
pub unsafe extern "C" fn nibble_tokenizer_vocab_size(handle: *const Tokenizer) -> usize {
    handle.as_ref().map_or(0, Tokenizer::vocab_size)
}

/// # Safety
/// See nibble_text.h.
#[no_mangle]
pub unsafe extern "C" fn nibble_tokenizer_id_limit(handle: *const Tokenizer) -> u64 {
    handle.as_ref().map_or(0, Tokenizer::id_limit)
}

/// # Safety
/// See nibble_text.h.
#[no_mangle]
pub unsafe extern "C" fn nibble_tokenizer_added_count(handle: *const Tokenizer) -> usize {
    handle.as_ref().map_or(0, |t| t.added().len())
}

/// # Safety
/// See nibble_text.h.
#[no_mangle]
pub unsafe extern "C" fn nibble_tokenizer_added_token(
    handle: *const Tokenizer,
    index: usize,
    out: *mut AddedToken,
) -> i32 {
    guarded(std::ptr::null_mut(), std::ptr::null_mut(), || {
        let token = tokenizer(handle)?.added().get(index);
        let token = token.ok_or_else(|| Error::new(Status::Argument, "no such added token"))?;
        if out.is_null() {
            return Err(Error::new(Status::Argument, "output: null"));
        }
        out.write(AddedToken {
            content: token.content.as_ptr(),
            content_len: token.content.len(),
            id: token.id,
            special: token.special.into(),
            lstrip: token.lstrip.into(),
            rstrip: token.rstrip.into(),
            single_word: token.single_word.into(),
            normalized: token.normalized.into(),
        });
        Ok(())
    })
}

/// # Safety
/// See nibble_text.h.
#[no_mangle]
pub unsafe extern "C" fn nibble_chat_render(
    request: *const ChatRequest,
    out: *mut Buffer,
    line: *mut u32,
    error: *mut Buffer,
) -> i32 {
    guarded(error, line, || {
        let out = output(out, Buffer::empty())?;
        let null = || Error::new(Status::Argument, "request: null");
        let r = request.as_ref().ok_or_else(null)?;
        let optional = |what, data: *const u8, len| match data.is_null() {
            true => Ok(None),
            false => text(what, data, len).map(Some),
        };
        let rendered = chat::render(&chat::Request {
            template: text("template", r.template_text, r.template_len)?,
            messages: optional("messages", r.messages, r.messages_len)?,
            variables: optional("variables", r.variables, r.variables_len)?,
            now: (r.has_now != 0).then_some(r.now),
            fuel: if r.fuel == 0 { chat::DEFAULT_FUEL } else { r.fuel.min(chat::DEFAULT_FUEL) },
            max_output: if r.max_output == 0 { chat::DEFAULT_OUTPUT } else { r.max_output },
        })?;
        *out = Buffer::new(rendered.into_bytes());
        Ok(())
    })
}

/// # Safety
/// See nibble_text.h.
#[no_mangle]
pub unsafe extern "C" fn nibble_vocabulary_new(
    handle: *const Tokenizer,
    rows: usize,
    ends: *const u32,
    count: usize,
    out: *mut *mut Vocabulary,
    error: *mut Buffer,
) -> i32 {
    guarded(error, std::ptr::null_mut(), || {
        let out = output(out, std::ptr::null_mut())?;
        let ends = words(ends, count)?;
        *out = Box::into_raw(Box::new(Vocabulary::new(tokenizer(handle)?, rows, ends)?));
        Ok(())
    })
}

/// # Safety
/// See nibble_text.h.
#[no_mangle]
pub unsafe extern "C" fn nibble_vocabulary_free(handle: *mut Vocabulary) {
    release(handle);
}

/// # Safety
/// See nibble_text.h.
#[no_mangle]
pub unsafe extern "C" fn nibble_matcher_new(
    vocabulary: *const Vocabulary,
    kind: i32,
    data: *const u8,
    len: usize,
    out: *mut *mut Matcher,
    error: *mut Buffer,
) -> i32 {
    guarded(error, std::ptr::null_mut(), || {
        let out = output(out, std::ptr::null_mut())?;
        let null = || Error::new(Status::Argument, "vocabulary: null");
        let vocabulary = vocabulary.as_ref().ok_or_else(null)?;
        let grammar = text("grammar", data, len)?;
        let source = match kind {
            0 => Source::JsonSchema(grammar),
            1 => Source::Lark(grammar),
            _ => return Err(Error::new(Status::Argument, "grammar: unknown kind")),
        };
        *out = Box::into_raw(Box::new(vocabulary.compile(source)?));
        Ok(())
    })
}

/// # Safety
/// See nibble_text.h.
#[no_mangle]
pub unsafe extern "C" fn nibble_matcher_split(
    handle: *const Matcher,
    out: *mut *mut Matcher,
    error: *mut Buffer,
) -> i32 {
    guarded(error, std::ptr::null_mut(), || {
        let out = output(out, std::ptr::null_mut())?;
        let null = || Error::new(Status::Argument, "matcher: null");
        *out = Box::into_raw(Box::new(handle.as_ref().ok_or_else(null)?.split()));
        Ok(())
    })
}

/// # Safety
/// See nibble_text.h.
#[no_mangle]
pub unsafe extern "C" fn nibble_matcher_free(handle: *mut Matcher) {
    release(handle);
}

/// # Safety
/// See nibble_text.h.
#[no_mangle]
pub unsafe extern "C" fn nibble_matcher_mask(
    handle: *mut Matcher,
    mask: *mut u32,
    count: usize,
    error: *mut Buffer,
) -> i32 {
    guarded(error, std::ptr::null_mut(), || {
        if mask.is_null() || count > crate::grammar::MAX_ROWS {
            return Err(Error::new(Status::Argument, "mask: null or too long"));
        }
        matcher(handle)?.mask(std::slice::from_raw_parts_mut(mask, count))
    })
}

/// # Safety
/// See nibble_text.h.
#[no_mangle]
pub unsafe extern "C" fn nibble_matcher_accept(
    handle: *mut Matcher,
    token: u32,
    complete: *mut i32,
    error: *mut Buffer,
) -> i32 {
    guarded(error, std::ptr::null_mut(), || {
        let complete = output(complete, 0)?;
        *complete = matcher(handle)?.accept(token)?.into();
        Ok(())
    })
}

/// # Safety
/// See nibble_text.h.
#[no_mangle]
pub unsafe extern "C" fn nibble_text_buffer_free(buffer: *mut Buffer) {
    if let Some(b) = buffer.as_mut() {
        if !b.data.is_null() {
            drop(Box::from_raw(std::ptr::slice_from_raw_parts_mut(b.data, b.len)));
        }
        *b = Buffer::empty();
    }
}

/// # Safety
/// See nibble_text.h.
#[no_mangle]
pub unsafe extern "C" fn nibble_text_ids_free(ids: *mut Ids) {
    if let Some(i) = ids.as_mut() {
        if !i.data.is_null() {
            drop(Box::from_raw(std::ptr::slice_from_raw_parts_mut(i.data, i.len)));
        }
        *i = Ids { data: std::ptr::null_mut(), len: 0 };
    }
}

#[no_mangle]
pub extern "C" fn nibble_text_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}
