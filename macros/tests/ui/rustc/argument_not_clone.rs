//! An argument that cannot be copied for another attempt.

use callboard::task;

#[derive(serde::Serialize, serde::Deserialize)]
struct Matrix {
    rows: Vec<Vec<f64>>,
}

#[task]
fn rows(matrix: Matrix) -> usize {
    matrix.rows.len()
}

fn main() {}
