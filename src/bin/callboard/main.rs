//! The `callboard` command: the library's command line, with no tasks but its own.

mod huge_pages;

/// For `callboard bench --only norms`, and the like: tasks that fill large buffers.
#[global_allocator]
static ALLOCATOR: huge_pages::HugePages = huge_pages::HugePages;

fn main() -> std::process::ExitCode {
    callboard::cli::main()
}
