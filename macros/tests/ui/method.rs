//! A method.

use callboard::task;

struct Matrix {
    rows: Vec<Vec<f64>>,
}

impl Matrix {
    #[task]
    fn height(&self) -> usize {
        self.rows.len()
    }

    #[task]
    fn width(self: Box<Self>) -> usize {
        self.rows.first().map_or(0, Vec::len)
    }
}

fn main() {}
