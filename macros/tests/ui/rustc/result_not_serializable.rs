//! A result that cannot be encoded.

use callboard::task;

struct Matrix {
    rows: Vec<Vec<f64>>,
}

#[task]
fn identity(size: usize) -> Matrix {
    Matrix { rows: vec![vec![1.0; size]; size] }
}

#[task]
fn perhaps(size: usize) -> Result<Matrix, String> {
    Ok(Matrix { rows: vec![vec![1.0; size]; size] })
}

fn main() {
    println!("{}", identity(1).call().rows.len());
}
