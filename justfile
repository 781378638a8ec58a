# The usual commands: `just` lists them, `just NAME` runs one. https://just.systems

# list the commands
default:
    @just --list

# format all crates
fmt:
    cargo fmt --all
    cargo fmt --all --manifest-path fuzz/Cargo.toml

# clippy on everything, warnings are errors
lint:
    cargo clippy --workspace --all-targets --all-features -- -D warnings

# all tests
test *ARGS:
    cargo test {{ARGS}}

# the integration tests whose names contain NAME, such as `just it shutdown::`
it NAME:
    cargo test -p user-server --test it {{NAME}}

# run an example of the library: hello, streaming, tls, auth, interceptor, shutdown, testing
example NAME *ARGS:
    cargo run --example {{NAME}} -- {{ARGS}}

# run the user service, with settings: `just serve --store memory:`
serve *ARGS:
    cargo run --release -- {{ARGS}}

# kill a server under load: sqlite, postgres, two or outage
crash KIND="sqlite" *ARGS:
    tests/crash/run {{KIND}} {{ARGS}}

# attack the server; names begin like the arguments, `just hostile list` shows them
hostile *NAMES:
    tests/hostile/run {{NAMES}}

# clients in Python, Go and JavaScript
interop:
    tests/interop/run

# Connect's conformance suite and h2spec
conformance:
    tests/conformance/run

# one benchmark: framing, heads, chain, allocations, scaling, stores
bench NAME *ARGS:
    cargo bench --bench {{NAME}} {{ARGS}}

# instructions per call, beside the record
instructions:
    benches/instructions

# one fuzz target for some seconds: connection, frame, head, hpack, metadata_bin, status_message, timeout
fuzz TARGET SECONDS="30":
    RUSTC_BOOTSTRAP=1 cargo fuzz run {{TARGET}} -- -max_total_time={{SECONDS}}

# the API documentation, the book and its links
docs:
    cargo doc --workspace --no-deps --all-features
    .ci/links
    mdbook build docs

# how long sentences are, by group
sentences *ARGS:
    .ci/sentences {{ARGS}}

# all that has to pass before a merge
ci:
    .ci/run
