//! Wrong uses of `#[task]` do not compile, and the compiler's message says what to write instead.
//!
//! Each file in `tests/ui` is one kind of wrong use; the `.stderr` beside it is all that the compiler says. After
//! the change of a message write them anew with `TRYBUILD=overwrite cargo test -p callboard-macros --test task_misuse`, and read them.
//!
//! They are here and not beside the library's tests: what they are compiled with is built for them alone, and of this crate's
//! that is little.

use std::process::Command;

/// The compiler whose own words are in `tests/ui/rustc`; others word them differently.
const WORDS_OF: &str = "rustc 1.95.";

#[test]
fn wrong_uses_are_explained() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/ui/*.rs");
    if compiler().starts_with(WORDS_OF) {
        cases.compile_fail("tests/ui/rustc/*.rs");
    }
}

fn compiler() -> String {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let answer = Command::new(rustc).arg("--version").output().expect("the compiler of this test is still there");
    String::from_utf8_lossy(&answer.stdout).into_owned()
}
