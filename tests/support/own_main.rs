//! For test programs with a `main` of their own, since the same program is something else, too: names their tests, and runs
//! those that are asked for.
#![allow(dead_code, unreachable_pub, unused_imports, unused_macros)]

use std::time::Instant;

/// A test, and what it is called.
pub type Test = (&'static str, fn());

/// Names each test beside it.
macro_rules! tests {
    ($($test:ident),* $(,)?) => { &[$((stringify!($test), $test as fn())),*] };
}
pub(crate) use tests;

/// Runs the tests whose name contains the argument of this program: of `cargo test --test tcp -- engine` those of engines; all, if
/// there is none.
pub fn run(tests: &[Test]) {
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    for (name, test) in tests {
        if wanted.as_ref().is_none_or(|wanted| name.contains(wanted)) {
            println!("test {name} ..");
            let began = Instant::now();
            test();
            println!("test {name} ... ok ({:?})", began.elapsed());
        }
    }
}
