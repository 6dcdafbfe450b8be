//! Functions of a trait.

use callboard::task;

trait Shape {
    #[task]
    fn area(size: f64) -> f64;

    #[task]
    fn scaled(&self, by: f64) -> f64;
}

fn main() {}
