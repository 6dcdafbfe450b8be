//! Tasks that call their own name to recurse. Their callers compile, and so do the calls that build a task.

use callboard::prelude::*;

#[task]
fn fibonacci(n: u32) -> u64 {
    if n < 2 {
        return n.into();
    }
    fibonacci(n - 1) + fibonacci(n - 2)
}

#[task]
fn gcd(a: u64, b: u64) -> Result<u64, String> {
    let rest = a.checked_rem(b).ok_or("zero")?;
    let deeper = gcd(b, rest)?;
    Ok(deeper)
}

#[task]
async fn countdown(n: u32) -> u32 {
    if n == 0 { 0 } else { Box::pin(async move { countdown(n - 1).await }).await }
}

trait Run {
    fn apply(&self, task: impl Task) -> u32;
}

#[task]
fn built_for_others(n: u32) -> u32 {
    struct View;
    impl Run for View {
        fn apply(&self, _: impl Task) -> u32 {
            1
        }
    }
    View.apply(built_for_others(n)) + built_for_others(n - 1).call()
}

fn main() {
    let sum: u64 = fibonacci(3).call() + gcd(6, 4).call().unwrap_or(0);
    println!("{sum} {}", built_for_others(2).call());
    drop(countdown(3).call());
}
