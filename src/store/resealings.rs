//! That values are sealed anew under another key: whether it was asked for, and which process does it.

use uuid::Uuid;

use super::{Store, StoreError};

/// What is sealed anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resealing {
    /// What older keys of tenants sealed.
    Data,
    /// What older master keys sealed.
    Master,
}

impl Resealing {
    fn as_str(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Master => "master",
        }
    }
}

row! {
    /// A row of `resealings`.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct ResealingRow {
        /// When it was last asked for; microseconds since 1970.
        pub asked_at: Option<i64>,
        /// Under which key.
        pub key_id: Option<String>,
        /// When it was last finished; microseconds since 1970.
        pub done_at: Option<i64>,
    }
}

impl ResealingRow {
    /// Whether it was asked for and is not finished.
    pub fn is_open(&self) -> bool {
        self.asked_at > self.done_at
    }
}

impl Store {
    /// How it stands with what older master keys sealed. The rest is sealed anew unasked.
    pub async fn resealing_under_master(&self) -> Result<ResealingRow, StoreError> {
        let text = "SELECT asked_at, key_id, done_at FROM resealings WHERE what = $1";
        Ok(on!(read self, db => sqlx::query_as(text).bind(Resealing::Master.as_str()).fetch_one(db).await?))
    }

    /// Asks for it, under this master key.
    pub async fn ask_to_reseal_under_master(&self, key_id: &str, now: i64) -> Result<(), StoreError> {
        let text = "UPDATE resealings SET asked_at = $1, key_id = $2 WHERE what = $3";
        on!(write self, tx => {
            sqlx::query(text).bind(now).bind(key_id).bind(Resealing::Master.as_str()).execute(&mut *tx).await?;
        });
        Ok(())
    }

    /// The process `holder` does it until `until`; says whether, as another may.
    pub async fn hold_resealing(
        &self,
        what: Resealing,
        holder: Uuid,
        now: i64,
        until: i64,
    ) -> Result<bool, StoreError> {
        let text = "UPDATE resealings SET holder = $1, held_until = $2
            WHERE what = $3 AND (holder = $1 OR holder IS NULL OR held_until < $4)";
        let held = on!(alone self, db => {
            sqlx::query(text).bind(holder).bind(until).bind(what.as_str()).bind(now).execute(db).await?.rows_affected()
        });
        Ok(held > 0)
    }

    /// The process `holder` does it no longer; what was asked for by `asked` is done, where that is said.
    pub async fn leave_resealing(
        &self,
        what: Resealing,
        holder: Uuid,
        done: Option<(i64, i64)>,
    ) -> Result<(), StoreError> {
        let leave = "UPDATE resealings SET holder = NULL, held_until = 0 WHERE what = $1 AND holder = $2";
        let finish = "UPDATE resealings SET done_at = $1 WHERE what = $2 AND asked_at = $3";
        on!(write self, tx => {
            sqlx::query(leave).bind(what.as_str()).bind(holder).execute(&mut *tx).await?;
            if let Some((asked, done)) = done {
                sqlx::query(finish).bind(done).bind(what.as_str()).bind(asked).execute(&mut *tx).await?;
            }
        });
        Ok(())
    }
}
