//! A boxed error that says nothing about threads.

use std::error::Error;

use callboard::task;

#[task]
fn parse(text: String) -> Result<f64, Box<dyn Error>> {
    Ok(text.parse::<f64>()?)
}

fn main() {}
