//! The one door for code of the user's: a panic behind it becomes a text, and nothing else.
//!
//! Tasks, callbacks, and the `Clone` and `Drop` of what they carry run behind [`user_code`]. A panic in
//! callboard's own code is a bug and is not hidden here.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;

use crate::limits::PANIC_TEXT_BYTES_MAX;

/// Runs code of the user's.
///
/// # Errors
/// The panic's message, if it panicked.
///
/// ```
/// use callboard::catch::user_code;
///
/// assert_eq!(user_code(|| 1 + 1), Ok(2));
/// assert_eq!(user_code(|| -> u32 { panic!("no luck") }), Err("no luck".into()));
/// ```
pub fn user_code<R>(code: impl FnOnce() -> R) -> Result<R, Box<str>> {
    catch_unwind(AssertUnwindSafe(code)).map_err(message_of)
}

/// Drops a value of the user's; a panic in its `Drop` is logged and goes no further.
///
/// ```
/// struct Bad;
/// impl Drop for Bad {
///     fn drop(&mut self) { panic!("dropped") }
/// }
/// callboard::catch::discard(Bad); // logged
/// ```
pub fn discard<T>(value: T) {
    if !std::mem::needs_drop::<T>() {
        return;
    }
    if let Err(message) = user_code(move || drop(value)) {
        tracing::warn!(%message, "a value panicked when it was dropped");
    }
}

/// Wakes a task of the user's. Its waker is code of the user's executor: a panic in it is logged and goes no further.
pub(crate) fn wake(waker: Waker) {
    if let Err(message) = user_code(move || waker.wake()) {
        tracing::warn!(%message, "a waker panicked");
    }
}

/// Takes the message out of a panic's payload, and gets rid of the payload.
fn message_of(payload: Box<dyn Any + Send>) -> Box<str> {
    let message: Box<str> = if let Some(text) = payload.downcast_ref::<&'static str>() {
        shortened(text, PANIC_TEXT_BYTES_MAX).into()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        shortened(text, PANIC_TEXT_BYTES_MAX).into()
    } else {
        "(a panic payload that is not text)".into()
    };
    // The payload is a value of the user's too, and its `Drop` may panic with yet another. Whoever nests
    // them leaks the second one.
    if let Err(second) = catch_unwind(AssertUnwindSafe(move || drop(payload))) {
        std::mem::forget(second);
    }
    message
}

/// Cuts a text to the limit, at a character's boundary.
/// Cuts a text to at most so many bytes.
pub(crate) fn shortened(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
