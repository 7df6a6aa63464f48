//! The C functions: null pointers, text that is not UTF-8, panics.

use std::ptr::null_mut as null;

use nibble_text::ffi::*;

#[repr(C)]
struct Raw {
    data: *mut u8,
    len: usize,
}

fn raw() -> Raw {
    Raw { data: std::ptr::null_mut(), len: 0 }
}

#[test]
fn null_arguments_are_refused() {
    unsafe {
        assert_eq!(nibble_tokenizer_load(null(), 5, null(), null()), 1);
        let mut handle = null();
        assert_eq!(nibble_tokenizer_load(null(), 5, &mut handle, null()), 1);
        assert_eq!(nibble_tokenizer_load(null(), 0, &mut handle, null()), 2);
        assert!(handle.is_null());
        nibble_tokenizer_free(null());
        assert_eq!(nibble_tokenizer_vocab_size(null()), 0);
        assert_eq!(nibble_tokenizer_id_limit(null()), 0);
        assert_eq!(nibble_tokenizer_added_count(null()), 0);
        assert_eq!(nibble_tokenizer_added_token(null(), 0, null()), 1);
        assert_eq!(nibble_tokenizer_encode(null(), null(), 0, 0, null(), null()), 1);
        assert_eq!(nibble_chat_render(null(), null(), null(), null()), 1);
        nibble_text_buffer_free(null());
        nibble_text_ids_free(null());
    }
}

#[test]
fn errors_are_returned_as_text() {
    let mut error = raw();
    let json = b"\xFF\xFE";
    unsafe {
        let mut handle = std::ptr::null_mut();
        let error_ptr = (&raw mut error).cast();
        let status = nibble_tokenizer_load(json.as_ptr(), json.len(), &mut handle, error_ptr);
        assert_eq!(status, 2);
        let message = std::slice::from_raw_parts(error.data, error.len);
        assert!(std::str::from_utf8(message).unwrap().starts_with("expected value"));
        nibble_text_buffer_free(error_ptr);
    }
    assert!(error.data.is_null());
}
