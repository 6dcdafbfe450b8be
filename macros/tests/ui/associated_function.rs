//! A function inside an `impl`, without a `self`.

use callboard::task;

struct Matrix {
    rows: Vec<Vec<f64>>,
}

impl Matrix {
    #[task]
    fn zeros(size: usize) -> Self {
        Self { rows: vec![vec![0.0; size]; size] }
    }
}

fn main() {}
