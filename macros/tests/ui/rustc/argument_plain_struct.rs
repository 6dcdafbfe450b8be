//! An argument that derives nothing.

use callboard::task;

struct Matrix {
    rows: Vec<Vec<f64>>,
}

#[task]
fn rows(matrix: Matrix) -> usize {
    matrix.rows.len()
}

fn main() {}
