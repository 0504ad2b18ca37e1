//! The settings of the audit trail.

use super::parse;

/// What becomes of the record of each operation.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Audit trail")]
pub struct Audit {
    /// What a record outlives before the answer of its operation goes out: the process, or a power cut
    #[arg(id = "audit_durability", long = "audit-durability", env = "MREG_AUDIT_DURABILITY", value_enum, default_value_t = Durability::Process, value_name = "WHAT")]
    pub durability: Durability,
    /// What becomes of requests while the journal is full or cannot be written: they are refused, or wait for some seconds before
    #[arg(id = "audit_when_full", long = "audit-when-full", env = "MREG_AUDIT_WHEN_FULL", value_enum, default_value_t = WhenFull::Refuse, value_name = "WHAT")]
    pub when_full: WhenFull,
    /// Most bytes of records that wait in the data folder until the database takes them, at least 1MiB
    #[arg(id = "audit_journal_max_bytes", long = "audit-journal-max-bytes", env = "MREG_AUDIT_JOURNAL_MAX_BYTES", default_value = "1GiB", value_name = "BYTES", value_parser = parse::bytes)]
    pub journal_max_bytes: usize,
}

/// What a record outlives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Durability {
    /// The process, however it ends
    Process,
    /// The machine: the disk is asked to keep it, once for all that wait
    Disk,
}

/// What becomes of requests that cannot be recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum WhenFull {
    /// They are refused with 503
    Refuse,
    /// They wait until there is room, for ten seconds at most
    Slow,
}
