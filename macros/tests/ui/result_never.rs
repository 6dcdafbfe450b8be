//! A task that never returns.

use callboard::task;

#[task]
fn forever() -> ! {
    loop {}
}

fn main() {}
