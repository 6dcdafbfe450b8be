//! Functions that are more than a Rust function.

use callboard::task;

#[task]
unsafe fn read(address: usize) -> u8 {
    address as u8
}

#[task]
const fn double(n: u32) -> u32 {
    2 * n
}

#[task]
extern "C" fn exported(n: u32) -> u32 {
    n
}

fn main() {}
