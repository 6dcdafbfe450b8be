# What one does daily. `just` lists the recipes.

default:
    @just --list

# What CI runs, short of the README's commands.
check:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

test:
    cargo test --workspace

# An in-process user builds without the command line.
minimal:
    cargo check --no-default-features

bench *ARGS:
    cargo run --release -- bench {{ARGS}}

# Sizes that take minutes: a million random event sequences for the ledger, ten million submissions, a
# million tasks with panics, a thousand engines killed under load, 100 000 tampered streams.
torture:
    CALLBOARD_CASES=1000000 cargo test --release --test ledger --test pieces
    cargo test --release --test million --test limits --test cluster_end -- --nocapture
    CALLBOARD_CASES=2000 cargo test --release --test drop_order --test chaos -- --nocapture
    CALLBOARD_CASES=1000 cargo test --release --test kills
    CALLBOARD_CASES=100000 cargo test --release --test frames
