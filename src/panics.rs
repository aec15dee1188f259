//! Panics that are not worth a message: of libraries over foreign bytes, which are caught; and of
//! printing to somebody who has stopped reading, as `head` does.

use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook},
    sync::Once,
};

thread_local! {
    static EXPECTED: Cell<bool> = const { Cell::new(false) };
}

static HOOK: Once = Once::new();

/// Calls what panics over some of what anybody may send; none if it does. Nothing is printed for it,
/// and no backtrace is made, which takes longer than all else and up to 100 MB.
pub(crate) fn caught<T>(call: impl FnOnce() -> T) -> Option<T> {
    HOOK.call_once(|| {
        let usual = take_hook();
        set_hook(Box::new(move |panic| {
            if !EXPECTED.get() {
                usual(panic);
            }
        }));
    });
    let before = EXPECTED.replace(true);
    // what the call has half done is dropped with it
    let result = catch_unwind(AssertUnwindSafe(call));
    EXPECTED.set(before);
    result.ok()
}

/// Exit code: nobody reads what is printed, as a shell has it of a program that SIGPIPE ends.
const NO_READER: i32 = 141;

/// From now on, the program ends without a word when nobody reads its standard output any more.
pub(crate) fn end_without_reader() {
    let usual = take_hook();
    set_hook(Box::new(move |panic| {
        let said = panic.payload_as_str().unwrap_or_default();
        if said.starts_with("failed printing to stdout") && said.contains("Broken pipe") {
            std::process::exit(NO_READER);
        }
        usual(panic);
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_caught_and_the_next_call_is_as_good() {
        assert_eq!(caught(|| -> i32 { panic!("foreign bytes") }), None);
        assert_eq!(caught(|| 7), Some(7));
        assert!(!EXPECTED.get());
    }
}
