//! An argument that cannot be encoded.

use callboard::task;

#[derive(Clone)]
struct Matrix {
    rows: Vec<Vec<f64>>,
}

#[task]
fn rows(matrix: Matrix) -> usize {
    matrix.rows.len()
}

fn main() {}
