//! An error that has no text.

use callboard::task;

struct Refusal;

#[task]
fn refuse() -> Result<u8, Refusal> {
    Err(Refusal)
}

fn main() {}
