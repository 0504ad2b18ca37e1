//! What time ends and what nobody needs any longer, in batches that hold no lock for long.

use time::{Duration, OffsetDateTime};

use super::refreshes::{COUNTS_KEPT, hour};
use super::{Ended, Grants, REFRESH_GRACE, Refusal};
use crate::store::grants::{BATCH, GrantRow};
use crate::store::micros;

/// What a sweep did.
#[derive(Debug, Default)]
pub struct Swept {
    /// Grants that ended, `timeout` all of them.
    pub ended: Vec<Ended>,
    /// Rows that were removed.
    pub removed: u64,
    /// Whether a batch was full, so that another sweep has work at once.
    pub more: bool,
}

/// How long a code has been expired before its grant ends: longer than anybody who showed it in time can still be at work.
const CODE_LOST: Duration = Duration::minutes(1);
/// How long an end can be looked up.
const ENDED_KEPT: Duration = Duration::days(30);
/// How long a spent refresh token is known as one that was good, so that its theft is noticed.
const SPENT_KEPT: Duration = Duration::days(30);
/// How long a lost answer is forgiven: whether its access token was used is known for that long after it expired.
const FORGIVEN: Duration = Duration::days(7);
/// How long a login is kept before a grant rests on it.
const LOGIN_WAITS: Duration = Duration::hours(1);
/// How long it is kept what a provider wants to see of somebody who does not come back.
const PARKED_KEPT: Duration = Duration::days(30);
/// How long traces are kept after their last step, and how many: those of people who are known, and those of nobody.
const TRACES_KEPT: Duration = Duration::days(7);
const MOST_TRACES: i64 = 10_000;
const MOST_OF_NOBODY: i64 = 5_000;

impl Grants {
    /// Ends grants whose time is over and removes what is past its use. For a job, every minute or so, of any process. `tell` hears what
    /// has ended as soon as it has: whatever comes of the rest, nobody will find that again.
    pub async fn sweep(&self, now: OffsetDateTime, mut tell: impl FnMut(&[Ended])) -> Result<Swept, Refusal> {
        let store = &self.0.store;
        let mut swept = Swept::default();
        let mut end = |swept: &mut Swept, rows: Vec<GrantRow>| {
            swept.more |= rows.len() >= BATCH;
            let ended: Vec<Ended> = rows.into_iter().filter_map(told).collect();
            tell(&ended);
            swept.ended.extend(ended);
        };
        let idle = micros(now - self.0.terms.grant_idle);
        // Before the tokens that say who called may go.
        self.sweep_preludes(now);
        swept.more |= self.sweep_traces(now).await?;
        end(&mut swept, store.end_grants_of_lost_codes(micros(now - CODE_LOST), micros(now)).await?);
        end(&mut swept, store.end_grants_by_time(idle, micros(now)).await?);
        let gone = [
            store.purge_authorizations(micros(now)).await?,
            store.purge_assertions(micros(now)).await?,
            store
                .purge_tokens(
                    micros(now),
                    micros(now - REFRESH_GRACE),
                    micros(now - FORGIVEN),
                    micros(now - SPENT_KEPT),
                )
                .await?,
            store.purge_grants(micros(now - ENDED_KEPT)).await?,
            store.purge_logins(micros(now - LOGIN_WAITS), micros(now - PARKED_KEPT)).await?,
            store.purge_refreshes(hour(now - COUNTS_KEPT)).await?,
            store.purge_traces(micros(now - TRACES_KEPT), MOST_TRACES, MOST_OF_NOBODY).await?,
        ];
        for count in gone {
            swept.removed += count;
            swept.more |= count >= BATCH as u64;
        }
        Ok(swept)
    }
}

fn told(row: GrantRow) -> Option<Ended> {
    Ended::of(row).inspect_err(|error| tracing::error!("a grant that ended cannot be read: {error}")).ok()
}
