//! Metrics, logs, and the one record of each operation.
