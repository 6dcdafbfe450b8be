//! Arguments that borrow.

use std::borrow::Cow;
use std::path::Path;

use callboard::task;

struct Matrix;

#[task]
fn of_text(text: &str) -> usize {
    text.len()
}

#[task]
fn of_slice(values: &[f64], names: &[String]) -> usize {
    values.len() + names.len()
}

#[task]
fn of_path(path: &Path) -> bool {
    path.exists()
}

#[task]
fn of_struct(matrix: &Matrix) {
    drop(matrix);
}

#[task]
fn in_place(values: &mut Vec<f64>) {
    values.clear();
}

#[task]
fn inside(words: Vec<&'static str>, last: Option<&str>) -> usize {
    words.len() + last.map_or(0, str::len)
}

#[task]
fn behind_a_lifetime(text: Cow<'_, str>) -> usize {
    text.len()
}

trait Shape {
    fn area(&self) -> f64;
}

#[task]
fn behind_a_trait(shape: &dyn Shape) -> f64 {
    shape.area()
}

fn main() {}
