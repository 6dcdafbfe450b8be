//! Things that are not functions.

use callboard::task;

#[task]
pub struct Norm {
    values: Vec<f64>,
}

#[task]
impl Norm {}

#[task]
trait Measured {}

#[task]
const LIMIT: usize = 3;

fn main() {}
