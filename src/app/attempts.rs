//! Who shows too much that is wrong from one address has to wait.

use std::net::IpAddr;

use time::OffsetDateTime;

use super::App;
use crate::access::AccessError;
use crate::access::accounts::Count;
use crate::grants::rate::Exceeded;
use crate::limit::guard::Wrong;

impl App {
    /// A sign-in begins at `source`; or it has to wait, which is counted.
    pub fn may_begin(&self, source: IpAddr, now: OffsetDateTime) -> Result<(), Exceeded> {
        self.attempts.begin(source, now).inspect_err(|exceeded| self.throttled("", exceeded.limit))
    }

    /// What comes of the password that `source` shows, looked at by `look` unless it has to wait, which is counted.
    pub async fn attempt<T, F>(
        &self,
        source: IpAddr,
        now: OffsetDateTime,
        look: impl FnOnce(Count) -> F,
    ) -> Result<T, AccessError>
    where
        F: Future<Output = Result<T, AccessError>>,
    {
        self.attempts.may_show(source, now).inspect_err(|exceeded| self.throttled("", exceeded.limit))?;
        let looked = look(self.counting(source, now)).await;
        if matches!(looked, Err(AccessError::WrongPassword)) {
            self.guard.refused(source, Wrong::Credential(None), now);
        }
        looked
    }

    /// Counts a password that `source` shows.
    pub fn counting(&self, source: IpAddr, now: OffsetDateTime) -> Count {
        let app = self.clone();
        Box::new(move || {
            app.attempts.show(source, now).inspect_err(|exceeded| app.throttled("", exceeded.limit))?;
            Ok(Box::new(move || app.attempts.was_right(source, now)))
        })
    }

    /// What came of a secret, a code or a token that `source` showed. What is right never waits; of what is wrong by `is_wrong`, too
    /// much is told to, which is counted.
    pub fn judged<T, E: From<Exceeded>>(
        &self,
        source: IpAddr,
        now: OffsetDateTime,
        done: Result<T, E>,
        is_wrong: impl FnOnce(&E) -> bool,
    ) -> Result<T, E> {
        if done.as_ref().is_err_and(is_wrong) {
            let waits = self.attempts.was_no_token(source, now);
            waits.inspect_err(|exceeded| self.throttled("", exceeded.limit))?;
            // One that is told to wait is counted by its status.
            self.guard.refused(source, Wrong::Credential(None), now);
        }
        done
    }
}
