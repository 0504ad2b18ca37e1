//! The steps that bring the tables up to date, in order: the files of `migrations/`, within the program.

use sqlx::SqlSafeStr as _;
use sqlx::migrate::{Migration, MigrationType, Migrator};

macro_rules! steps {
    ($($version:literal $about:literal,)*) => {
        [$(($version, $about, include_str!(concat!("../../migrations/", $version, "_", $about, ".sql"))),)*]
    };
}

/// Each by when it was written and what it is about, which together name its file, and with its text.
#[expect(clippy::unreadable_literal, reason = "as in the names of the files")]
const STEPS: [(i64, &str, &str); 35] = steps![
    20260101000000 "registry",
    20260201000000 "sign_in",
    20260301000000 "trusted_issuers",
    20260302000000 "directories",
    20260312000000 "sign_in_traces",
    20260320000000 "lapsed",
    20260327000000 "waiting",
    20260401000000 "bound_tokens",
    20260408000000 "trace_of_code",
    20260410000000 "ask_again",
    20260415000000 "assumed_directories",
    20260416000000 "guests",
    20260501000000 "tenant_limits",
    20260502000000 "role_mappings",
    20260503000000 "retention",
    20260504000000 "data_keys",
    20260510000000 "bans",
    20260511000000 "access_rules",
    20260512000000 "replicas",
    20260515000000 "tools_apart",
    20260520000000 "signing_keys",
    20260601000000 "token_refresh",
    20260605000000 "asked_back",
    20260606000000 "due_askable",
    20260620000000 "key_rotation",
    20260630000000 "connections",
    20260701000000 "audit",
    20260705000000 "idempotency",
    20260715000000 "rollups",
    20260716000000 "samples",
    20260717000000 "asked_by",
    20260718000000 "audit_kept",
    20260726000000 "recorded_arguments",
    20260728000000 "audit_sent_to",
    20260801000000 "audit_blocks",
];

/// Takes those that a database has not taken yet.
pub(super) fn migrator() -> Migrator {
    let step = |(version, about, text): (i64, &str, &'static str)| {
        Migration::new(version, about.replace('_', " ").into(), MigrationType::Simple, text.into_sql_str(), false)
    };
    Migrator::with_migrations(STEPS.map(step).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_a_step_and_in_order() {
        let folder = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations")).unwrap();
        let mut files: Vec<_> = folder.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        files.sort();
        assert_eq!(STEPS.map(|(version, about, _)| format!("{version}_{about}.sql")).to_vec(), files);
    }
}
