# The verbs of this repository. `just` alone lists them.

_default:
    @just --list --unsorted

# Is it sound? Form, lints and the tests beside the code; what to run before every commit
check:
    ./test --quick

# Everything, as CI does it
test *ARGS:
    ./test {{ARGS}}

# Servers, clients and suites of others through the gateway
e2e:
    ./test --only e2e

# Start the gateway: `just run demo`, `just run serve --port 9000`
run *ARGS="demo":
    cargo run --release -- {{ARGS}}

# Measure against nginx on this machine; needs wrk and nginx
bench *ARGS:
    bench/run.sh {{ARGS}}

# Count the instructions of a call, function by function; needs valgrind. `just instructions --to OLD` compares two builds
instructions *ARGS:
    cargo build --release --bin mcp-gateway
    cargo build --release --package testkit --bin bench_upstream
    python3 bench/instructions.py target/release/mcp-gateway {{ARGS}}

# Measure signing in, live tokens and a flood of registrations
bench-sign-in *ARGS:
    cargo build --release --bin mcp-gateway
    cargo run --release --package testkit --bin bench_sign_in -- {{ARGS}}

# Days in which 10,000 people's tokens are kept fresh, on a clock that is moved on: DAYS (2), PEOPLE
refresh-days:
    cargo test --test it -- refresh_days::ten_thousand refresh_days::days --ignored --nocapture

# Kill the gateway again and again until 100,000 operations were answered, and find each of them in the audit trail
audit-kills:
    cargo build --bin mcp-gateway
    cargo test --test world -- audit::a_hundred_thousand --ignored --nocapture

# How long it takes to look into an audit trail of 1,000,000 records, and by which indexes
audit-scale:
    cargo test --release --test it -- audit_scale --ignored --nocapture

# How long it takes to find out who is due among 100,000
refresh-scale:
    cargo test --test it -- refresh_scale --ignored --nocapture

# Hold every report and metric against workloads of so many seeds: `just truth --seeds 50`
truth *ARGS:
    cargo build --workspace --bins
    TRUTH_SEEDS="$(echo "{{ARGS}}" | sed -n 's/^--seeds[ =]*//p')" cargo test --test world -- truth::reports_and_metrics_say_what_was_done_by_many_seeds --ignored --nocapture

# Write the Grafana dashboards anew
dashboards:
    python3 examples/monitoring/grafana/dashboards.py

# How long each report takes of sixty tenants and ninety days
analytics-scale:
    cargo test --release --test it -- analytics_scale --ignored --nocapture --test-threads 1

# Accept changed snapshots after looking at each
accept:
    cargo insta review

# The manual and the documentation of the code
doc:
    ./test --only book
    cargo doc --no-deps --document-private-items
