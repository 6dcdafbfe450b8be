//! An argument that cannot move to an engine's thread.

use std::rc::Rc;

use callboard::task;

#[task]
fn length(text: Rc<String>) -> usize {
    text.len()
}

fn main() {}
