//! When identity providers are asked again: what is due and who asks; and how that came out, by hours. `logins` holds what they gave.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use uuid::Uuid;

use super::logins::LoginRow;
use super::{Store, StoreError, micros_of};
use crate::id::TenantId;

row! {
    /// A row of `refreshes`.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct RefreshCount {
        /// Whose.
        pub tenant_id: String,
        /// Hours since 1970.
        pub hour: i64,
        /// Why the provider was asked.
        pub kind: String,
        /// How it came out.
        pub result: String,
        /// How often.
        pub count: i64,
        /// Tries beyond the first.
        pub retries: i64,
    }
}

row! {
    /// How refreshes came out, by kind and result.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct RefreshSum {
        /// Why the provider was asked.
        pub kind: String,
        /// How it came out.
        pub result: String,
        /// How often.
        pub count: i64,
        /// Tries beyond the first.
        pub retries: i64,
    }
}

row! {
    /// What there is to do.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct RefreshQueue {
        /// Logins that will be due.
        pub watched: i64,
        /// Those that are due.
        pub due: i64,
        /// When the next one is; microseconds since 1970.
        pub next_at: Option<i64>,
        /// Those whose people must come back, and have not.
        pub parked: i64,
    }
}

/// When somebody used what rests on a login `l` later than `$1`: a grant, or a key of the same account.
macro_rules! used_since {
    () => {
        "(EXISTS (SELECT 1 FROM grants g WHERE g.login_id = l.id AND g.ended_at IS NULL AND g.last_used_at > $1)
          OR EXISTS (SELECT 1 FROM api_keys k WHERE k.tenant_id = l.tenant_id AND k.user_id = l.user_id
             AND k.revoked_at IS NULL AND k.last_used_at > $1))"
    };
}

/// Of which logins a provider can be asked.
macro_rules! askable {
    () => {
        "state = 'active' AND tokens IS NOT NULL"
    };
}

/// Each once, with the latest time, in the order of ids: of two processes that write the same rows none then waits for a row that the other
/// has while the other waits for one of its own.
pub(super) fn in_order(used: &[(Uuid, i64)]) -> BTreeMap<Uuid, i64> {
    let mut latest = BTreeMap::new();
    for (id, at) in used {
        let kept = latest.entry(*id).or_insert(*at);
        *kept = (*kept).max(*at);
    }
    latest
}

/// Sets who is asked about, until `$1`, from `$2` on. A question about them that was under way is cut off.
macro_rules! claim {
    () => {
        "UPDATE logins SET ask_after = $1, due_at = $1, asking = TRUE, sent = FALSE,
            cut_off_at = CASE WHEN sent AND cut_off_at IS NULL THEN $2 ELSE cut_off_at END
        WHERE "
    };
}

impl Store {
    /// Nobody else asks about an active one between `now` and `until`: one that was last checked at `seen`, when it may be asked about
    /// again; or, where that does not matter, unless somebody is asking about it or its time has not come. None when another asks, or
    /// has asked.
    pub async fn claim_login(
        &self,
        tenant: &TenantId,
        id: Uuid,
        seen: Option<i64>,
        now: i64,
        until: i64,
    ) -> Result<Option<LoginRow>, StoreError> {
        let text = concat!(
            claim!(),
            askable!(),
            " AND tenant_id = $3 AND id = $4 AND CASE WHEN $5 IS NULL
                THEN (NOT asking OR ask_after <= $2) AND not_before <= $2
                ELSE ask_after <= $2 AND checked_at = $5 END RETURNING *"
        );
        Ok(on!(alone self, db => {
            let query = sqlx::query_as(text).bind(until).bind(now).bind(tenant.as_str()).bind(id).bind(seen);
            query.fetch_all(db).await?.pop()
        }))
    }

    /// Up to `limit` of a provider that are due, of every tenant but those that are left out; the longest waiting first, and behind them
    /// those of which a question has failed. Nobody else asks about them between `now` and `until`: of several processes, one gets each.
    pub async fn claim_due_logins(
        &self,
        provider: &str,
        left_out: &[TenantId],
        now: i64,
        until: i64,
        limit: i64,
    ) -> Result<Vec<LoginRow>, StoreError> {
        // Of several processes that ask at the same moment each takes others, and none waits.
        let skip = if self.is_shared() { " FOR UPDATE SKIP LOCKED" } else { "" };
        let places: String =
            (5..5 + left_out.len()).fold(String::new(), |text, at| text + &format!(" AND tenant_id <> ${at}"));
        let mut rows: Vec<LoginRow> = Vec::new();
        for failed in ["failures = 0", "failures > 0"] {
            let left = limit - i64::try_from(rows.len()).unwrap_or(limit);
            if left <= 0 {
                break;
            }
            let (claim, askable) = (claim!(), askable!());
            let text = format!(
                "{claim} {askable} AND due_at <= $2 AND ask_after <= $2 AND id IN
                (SELECT id FROM logins WHERE provider = $3 AND {failed} AND due_at <= $2 AND ask_after <= $2
                 AND {askable}{places} ORDER BY due_at LIMIT $4{skip})
                RETURNING *"
            );
            let some: Vec<LoginRow> = on!(brief self, tx => {
                let query = sqlx::query_as(sqlx::AssertSqlSafe(text)).bind(until).bind(now).bind(provider).bind(left);
                let query = left_out.iter().fold(query, |query, tenant| query.bind(tenant.as_str()));
                query.fetch_all(&mut *tx).await?
            });
            rows.extend(some);
        }
        Ok(rows)
    }

    /// Those among the first `window` of a provider that are due that nobody used since `since` are not due any more until somebody does;
    /// says how many.
    pub async fn rest_unused_logins(
        &self,
        provider: &str,
        since: i64,
        now: i64,
        window: i64,
    ) -> Result<u64, StoreError> {
        // Who has one of them in hand is not waited for: whoever holds two in another order could be waiting too.
        let skip = if self.is_shared() { " FOR UPDATE SKIP LOCKED" } else { "" };
        let (askable, used_since) = (askable!(), used_since!());
        let text = format!(
            "UPDATE logins SET due_at = NULL WHERE id IN (SELECT id FROM logins WHERE id IN
            (SELECT l.id FROM (SELECT id, tenant_id, user_id FROM logins
                WHERE provider = $2 AND due_at <= $3 AND ask_after <= $3 AND {askable}
                ORDER BY due_at LIMIT $4) l
             WHERE NOT {used_since}){skip})"
        );
        Ok(on!(alone self, db => {
            let query = sqlx::query(sqlx::AssertSqlSafe(text)).bind(since).bind(provider).bind(now).bind(window);
            query.execute(db).await?.rows_affected()
        }))
    }

    /// Logins that were used at these times, by who had not had the provider's newer word then, are due when that word is older than
    /// `recheck` or when they may be asked about again, if they were not due before. Each by itself: who asks about several holds them in
    /// an order of its own.
    pub(super) async fn wake_logins(&self, used: &BTreeMap<Uuid, i64>, recheck: Duration) -> Result<(), StoreError> {
        let text = concat!(
            "UPDATE logins SET due_at = CASE WHEN checked_at + $3 > ask_after THEN checked_at + $3 ELSE ask_after END
            WHERE id = $2 AND checked_at < $1
            AND (due_at IS NULL OR (due_at > checked_at + $3 AND due_at > ask_after)) AND ",
            askable!()
        );
        for (login, at) in used {
            on!(alone self, db => {
                sqlx::query(text).bind(at).bind(login).bind(micros_of(recheck)).execute(db).await?;
            });
        }
        Ok(())
    }

    /// Whoever got one to ask about until `was` has it until `until`, and the provider is asked now; says whether. Somebody else may have
    /// got it since.
    pub async fn hold_login(&self, tenant: &TenantId, id: Uuid, was: i64, until: i64) -> Result<bool, StoreError> {
        let text = concat!(
            "UPDATE logins SET ask_after = $1, due_at = $1, asking = TRUE, sent = TRUE
            WHERE tenant_id = $2 AND id = $3 AND ask_after = $4 AND ",
            askable!()
        );
        let done = on!(alone self, db => {
            sqlx::query(text).bind(until).bind(tenant.as_str()).bind(id).bind(was).execute(db).await?.rows_affected()
        });
        Ok(done > 0)
    }

    /// Nobody asks about one before `until`, when it is due; and nobody is asking. Nothing changes when somebody else got it since that had
    /// it until `was`.
    pub async fn ask_login_after(&self, tenant: &TenantId, id: Uuid, was: i64, until: i64) -> Result<(), StoreError> {
        let text = concat!(
            "UPDATE logins SET ask_after = $1, due_at = $1, asking = FALSE, sent = FALSE
            WHERE tenant_id = $2 AND id = $3 AND ask_after = $4 AND ",
            askable!()
        );
        on!(alone self, db => {
            sqlx::query(text).bind(until).bind(tenant.as_str()).bind(id).bind(was).execute(db).await?;
        });
        Ok(())
    }

    /// When the next one of a provider is due; microseconds since 1970.
    pub async fn next_login_due(&self, provider: &str) -> Result<Option<i64>, StoreError> {
        let text =
            concat!("SELECT MIN(due_at) FROM logins WHERE provider = $1 AND due_at IS NOT NULL AND ", askable!());
        Ok(on!(read self, db => sqlx::query_scalar(text).bind(provider).fetch_one(db).await?))
    }

    /// How many of a provider are due.
    pub async fn count_due_logins(&self, provider: &str, now: i64) -> Result<i64, StoreError> {
        let text = concat!("SELECT COUNT(*) FROM logins WHERE provider = $1 AND due_at <= $2 AND ", askable!());
        Ok(on!(read self, db => sqlx::query_scalar(text).bind(provider).bind(now).fetch_one(db).await?))
    }

    /// What there is to do, for one tenant or all.
    pub async fn refresh_queue(&self, tenant: Option<&TenantId>, now: i64) -> Result<RefreshQueue, StoreError> {
        let text = concat!(
            "SELECT COUNT(*) AS watched, COUNT(CASE WHEN due_at <= $1 THEN 1 END) AS due, MIN(due_at) AS next_at,
                (SELECT COUNT(*) FROM logins l WHERE l.state <> 'active' AND ($2 IS NULL OR l.tenant_id = $2)
                 AND NOT EXISTS (SELECT 1 FROM logins n WHERE n.tenant_id = l.tenant_id AND n.user_id = l.user_id
                    AND n.provider = l.provider AND n.created_at > l.created_at)) AS parked
            FROM logins WHERE due_at IS NOT NULL AND ($2 IS NULL OR tenant_id = $2) AND ",
            askable!()
        );
        let tenant = tenant.map(TenantId::as_str);
        Ok(on!(read self, db => sqlx::query_as(text).bind(now).bind(tenant).fetch_one(db).await?))
    }

    /// Adds to how refreshes came out. What is of a tenant that is gone is left out.
    pub async fn count_refreshes(&self, rows: &[RefreshCount]) -> Result<(), StoreError> {
        let text = "INSERT INTO refreshes (tenant_id, hour, kind, result, count, retries)
            SELECT id, $2, $3, $4, $5, $6 FROM tenants WHERE id = $1
            ON CONFLICT (tenant_id, hour, kind, result) DO UPDATE SET
            count = refreshes.count + excluded.count, retries = refreshes.retries + excluded.retries";
        on!(brief self, tx => {
            for row in rows {
                let query = sqlx::query(text).bind(&row.tenant_id).bind(row.hour).bind(&row.kind).bind(&row.result);
                query.bind(row.count).bind(row.retries).execute(&mut *tx).await?;
            }
        });
        Ok(())
    }

    /// How refreshes came out from that hour on, for one tenant or all.
    pub async fn refresh_sums(&self, tenant: Option<&TenantId>, from: i64) -> Result<Vec<RefreshSum>, StoreError> {
        self.refresh_sums_within(tenant, from..i64::MAX).await
    }

    /// The same of some hours.
    pub async fn refresh_sums_within(
        &self,
        tenant: Option<&TenantId>,
        Range { start, end }: Range<i64>,
    ) -> Result<Vec<RefreshSum>, StoreError> {
        let text = "SELECT kind, result, CAST(SUM(count) AS BIGINT) AS count, CAST(SUM(retries) AS BIGINT) AS retries
            FROM refreshes WHERE hour >= $1 AND hour < $2 AND ($3 IS NULL OR tenant_id = $3) GROUP BY kind, result";
        let tenant = tenant.map(TenantId::as_str);
        Ok(on!(read self, db => sqlx::query_as(text).bind(start).bind(end).bind(tenant).fetch_all(db).await?))
    }

    /// Removes what came out before that hour; says how many rows.
    pub async fn purge_refreshes(&self, before: i64) -> Result<u64, StoreError> {
        let text = "DELETE FROM refreshes WHERE hour < $1";
        Ok(on!(alone self, db => sqlx::query(text).bind(before).execute(db).await?.rows_affected()))
    }
}
