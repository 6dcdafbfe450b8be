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

# The suites of views, results and executors, on engines of another kind: `processes`; `tcp`, which dial in; or `elsewhere`, threads of a
# controller that is another process, of which the tests are clients over TCP.
test-on ENGINES:
    CALLBOARD_TEST_ENGINES={{ENGINES}} cargo test --test one_path --test async_result --test map --test map_corners --test corners \
        --test callbacks --test client --test namespace --test promises --test panics --test limits --test ten_traps

# Takes over what the command says now, where that was changed on purpose: tests/snapshots, for you to read through.
snapshots:
    INSTA_UPDATE=always cargo test --test help --test cluster_cli

# An in-process user builds without the command line.
minimal:
    cargo check --no-default-features

bench *ARGS:
    cargo run --release -- bench {{ARGS}}

# Sizes that take minutes: a million random event sequences for the ledger, ten million submissions, a
# million tasks with panics, a thousand engines killed under load, as many simulated networks, 1 200 deaths, 100 000
# tampered streams, 10 000 strangers, a hundred starts and stops of a cluster; then the fuzzers.
torture: && fuzz
    CALLBOARD_CASES=1000000 cargo test --release --test ledger --test pieces
    cargo test --release --test million --test limits --test cluster_end -- --nocapture
    CALLBOARD_CASES=2000 cargo test --release --test drop_order --test chaos -- --nocapture
    CALLBOARD_CASES=1000 cargo test --release --test kills
    CALLBOARD_CASES=1200 cargo test --release --test deaths
    CALLBOARD_CASES=1000 cargo test --release --lib simulation -- --nocapture
    CALLBOARD_CASES=100000 cargo test --release --test frames --test nearly_right
    CALLBOARD_CASES=10000 cargo test --release --test tcp strangers
    CALLBOARD_CASES=8192 cargo test --release --test tcp a_bit
    CALLBOARD_CASES=200 cargo test --release --test half_open engines_that_stand
    CALLBOARD_CASES=50 CALLBOARD_STILL_S=30 cargo test --release --test half_open controllers
    CALLBOARD_CASES=20 cargo test --release --test half_open link
    CALLBOARD_CASES=10 cargo test --release --test floods
    CALLBOARD_CASES=100 cargo test --release --test cluster_cli starts_and_stops
    CALLBOARD_TEST_SLOW=1 cargo test --release --test hosts killed

# Five minutes of coverage-guided fuzzing for each target; needs the nightly toolchain and cargo-fuzz.
fuzz:
    cargo +nightly fuzz run frames -- -max_total_time=300
    cargo +nightly fuzz run handshake -- -max_total_time=300
    cargo +nightly fuzz run envelope -- -max_total_time=300
