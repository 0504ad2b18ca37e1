//! Tokens that are given at once, to programs that ask for them, as often as they like.

use time::OffsetDateTime;

use super::App;
use crate::grants::{GrantKind, Issue, Made, Order, Refusal, Tokens};

impl App {
    /// Gives an access token at once; of those that an account has so, and a service by one client, the oldest give way where there
    /// are too many.
    pub async fn issue(&self, order: &Order, how: Issue, now: OffsetDateTime) -> Result<Tokens, Refusal> {
        let tokens = self.grants.issue(order, how, now).await?;
        let made = match how.kind {
            GrantKind::Service => Made::ByItself(&order.client_id),
            GrantKind::Client | GrantKind::Browser => Made::AtOnce,
        };
        self.told_of(&self.grants.end_surplus(&order.tenant, order.user, made, now).await?);
        Ok(tokens)
    }
}
