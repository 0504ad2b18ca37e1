//! What the database did not take of a provider's answer is made up for while the process lives: new tokens are stored, because
//! the old ones may be of no use any more, and then the login is due at once and not in minutes.

use std::time::Duration;

use tokio::time::Instant;

use super::{Kept, now};
use crate::app::App;
use crate::grants::{ALONE, Login, Refusal};

/// Pause after the first failure, which doubles with each, and the longest: who asks when the database is back should find the
/// new tokens.
const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(1);
/// For how long it is tried.
const AT_MOST: Duration = Duration::from_hours(1);

impl App {
    /// A login that was not asked about is due as before.
    pub(in crate::app) async fn give_back(&self, login: Login) {
        if self.make_due(&login).await.is_err() {
            self.make_up(login, None);
        }
    }

    /// The same in the background, of one of several that were not asked about since the database failed.
    pub(in crate::app) fn give_back_later(&self, login: Login) {
        self.make_up(login, None);
    }

    /// Tries in the background until the database has `tokens`, if there are any, or newer ones, and the login is due. There are
    /// never more of these than logins were being asked about when the database went away: without it nobody is asked about.
    pub(super) fn make_up(&self, mut login: Login, tokens: Option<Kept>) {
        let app = self.clone();
        self.tasks.spawn(async move { app.try_on(&mut login, tokens.as_ref()).await });
    }

    async fn try_on(&self, login: &mut Login, tokens: Option<&Kept>) {
        let begun = Instant::now();
        let (mut pause, mut last) = (FIRST, false);
        while let Err(refusal) = self.settle(login, tokens, begun).await {
            if last || !refusal.is_of_database() || begun.elapsed() >= AT_MOST {
                let lost = tokens.is_some();
                tracing::error!(login = %login.id, lost, error = refusal.detail, "a provider's answer could not be stored");
                return;
            }
            last = tokio::time::timeout(pause, self.shutdown.cancelled()).await.is_ok();
            pause = LONGEST.min(pause * 2);
        }
    }

    async fn settle(&self, login: &mut Login, tokens: Option<&Kept>, begun: Instant) -> Result<(), Refusal> {
        if let Some(tokens) = tokens {
            // Another process may have asked since, with what was there. Then its answer is the newer one, and stays.
            self.grants.login_renewed(login, tokens.given(), now()).await?;
        }
        // Later it is due by itself, and another may be asking.
        if begun.elapsed() < ALONE / 2 { self.make_due(login).await } else { Ok(()) }
    }

    async fn make_due(&self, login: &Login) -> Result<(), Refusal> {
        self.grants.ask_login_after(login, now()).await
    }
}
