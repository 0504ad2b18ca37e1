//! What administrators of the gateway see of bans and do about them.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::App;
use crate::access::{AccessError, Admin};
use crate::field::FieldError;
use crate::limit::guard::{Ban, Guard, Lifted, NotBanned, Reason, parse_network, written};
use crate::store::{Store, StoreError, at, micros};

/// Longest ban that is made by hand, in seconds: a year.
const LONGEST: u64 = 365 * 86_400;
/// Longest note, in characters.
const LONGEST_NOTE: usize = 500;

/// Where a ban stands in the list: when it began, and of what it is.
pub type Place = (i64, IpNet);

/// A ban as it may be read.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "Ban")]
pub struct BanView {
    /// An address of IPv4, or a network.
    pub address: String,
    /// `active`, `expired` or `lifted`.
    pub state: &'static str,
    /// Since when.
    #[serde(with = "crate::clock::Moment")]
    pub since: OffsetDateTime,
    /// Until when, if it is not lifted before.
    #[serde(with = "crate::clock::Moment")]
    pub until: OffsetDateTime,
    /// Why.
    pub reason: Reason,
    /// In words of who made it.
    pub note: Option<String>,
    /// By whom; null: by itself.
    pub made_by: Option<String>,
    /// What was refused within an hour and led to it.
    pub refusals: u32,
    /// Bans before that are not forgotten.
    pub earlier_bans: u32,
    /// Requests that this process refused because of it.
    pub requests_prevented: u64,
    /// Whether it turned out to be wrong.
    pub false_positive: bool,
    /// How it was taken back.
    pub lifted: Option<LiftView>,
}

/// How a ban was taken back.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "Lift")]
pub struct LiftView {
    /// When.
    #[serde(with = "crate::clock::Moment")]
    pub at: OffsetDateTime,
    /// Why.
    pub reason: LiftReason,
    /// In words.
    pub note: Option<String>,
    /// By whom.
    pub by: String,
}

/// Why a ban is taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LiftReason {
    /// It should never have been: counted as a false positive, and later bans are no longer for it.
    Wrong,
    /// It was right, and was long enough.
    Served,
}

/// A ban that is asked for.
#[derive(Debug, Clone)]
pub struct BanOrder {
    /// An address or a network.
    pub address: String,
    /// How long, in seconds; none: as one that begins by itself.
    pub duration_seconds: Option<u64>,
    /// Why: 1 to 500 characters.
    pub note: String,
}

/// A ban that is to be taken back.
#[derive(Debug, Clone)]
pub struct LiftOrder {
    /// Why.
    pub reason: LiftReason,
    /// In words, up to 500 characters.
    pub note: Option<String>,
}

/// What administrators see and do. Made by [`App::bans`].
#[derive(Clone, Copy)]
pub struct Bans<'a> {
    guard: &'a Guard,
    store: &'a Store,
}

impl App {
    /// The bans of addresses, to see and change.
    pub fn bans(&self) -> Bans<'_> {
        Bans { guard: &self.guard, store: &self.store }
    }
}

impl Bans<'_> {
    /// Up to `limit` bans, the newest first, those after the one that began at that time and is of that network; those that hold, or all
    /// that are remembered.
    pub fn list(
        self,
        admin: &Admin,
        all: bool,
        after: Option<Place>,
        limit: usize,
        now: OffsetDateTime,
    ) -> Result<Vec<(BanView, Place)>, AccessError> {
        of_gateway(admin)?;
        let now = micros(now);
        let mut bans = self.guard.all_bans();
        bans.retain(|ban| all || ban.holds(now));
        let place = |ban: &Ban| (std::cmp::Reverse(ban.since), ban.network);
        bans.sort_by_key(|ban| place(ban));
        let behind = |ban: &Ban| after.is_none_or(|(since, network)| place(ban) > (std::cmp::Reverse(since), network));
        let some = bans.iter().filter(|ban| behind(ban)).take(limit);
        Ok(some.map(|ban| (view(ban, now), (ban.since, ban.network))).collect())
    }

    /// The last ban of this network. `Missing` when none is remembered.
    pub fn show(self, admin: &Admin, address: &str, now: OffsetDateTime) -> Result<BanView, AccessError> {
        Ok(view(&*self.known(admin, address)?, micros(now)))
    }

    /// Bans by hand. `asking` is where the administrator is, who is not banned so.
    pub async fn ban(
        self,
        admin: &Admin,
        order: BanOrder,
        asking: IpAddr,
        now: OffsetDateTime,
    ) -> Result<BanView, AccessError> {
        of_gateway(admin)?;
        let mut wrong = Vec::new();
        let network = parse_network(&order.address).map_err(|text| FieldError::new("address", text));
        let network = network.and_then(|network| self.may_be_banned(network, asking).map(|()| network));
        if order.duration_seconds.is_some_and(|seconds| !(1..=LONGEST).contains(&seconds)) {
            wrong.push(FieldError::new("duration_seconds", format!("must be 1 to {LONGEST}")));
        }
        let note = note(&order.note).inspect_err(|text| wrong.push(FieldError::new("note", *text)));
        if note.as_ref().is_ok_and(String::is_empty) {
            wrong.push(FieldError::new("note", "say why, for who looks at it later"));
        }
        let (Ok(network), Ok(note), true) = (&network, note, wrong.is_empty()) else {
            wrong.extend(network.err());
            return Err(AccessError::Invalid(wrong));
        };
        let (said, lasts) = ((note, admin.username()), order.duration_seconds.map(Duration::from_secs));
        let made = self.guard.ban_by_hand(self.store, *network, said, lasts, now).await;
        let ban = made.map_err(|why| match why {
            NotBanned::Already => StoreError::Taken.into(),
            NotBanned::Store(error) => error.into(),
            NotBanned::Full => {
                let text = "there is no room for another ban made by hand; ban networks instead of addresses";
                AccessError::Invalid(vec![FieldError::new("address", text)])
            }
        })?;
        Ok(view(&ban, micros(now)))
    }

    /// Takes a ban back. `Missing` when none is remembered, `Stale` when it was lifted before.
    pub async fn lift(
        self,
        admin: &Admin,
        address: &str,
        order: LiftOrder,
        now: OffsetDateTime,
    ) -> Result<BanView, AccessError> {
        let ban = self.known(admin, address)?;
        let note = order.note.as_deref().map(note).transpose();
        let note = note.map_err(|text| AccessError::Invalid(vec![FieldError::new("note", text)]))?;
        if ban.lifted.is_some() {
            return Err(StoreError::Stale.into());
        }
        let (at, wrong) = (micros(now), order.reason == LiftReason::Wrong);
        let lifted = Lifted { at, wrong, note: note.unwrap_or_default(), by: admin.username().to_owned() };
        Ok(view(&*self.guard.lift(self.store, &ban, lifted, now).await?, at))
    }

    /// The last ban of what is named; none for whoever may not see it.
    fn known(self, admin: &Admin, address: &str) -> Result<Arc<Ban>, AccessError> {
        let network = parse_network(address).ok().filter(|_| admin.administers_gateway()).ok_or(StoreError::Missing)?;
        self.guard.last_ban(&network).ok_or_else(|| StoreError::Missing.into())
    }

    fn may_be_banned(self, network: IpNet, asking: IpAddr) -> Result<(), FieldError> {
        let wrong = |text: String| Err(FieldError::new("address", text));
        if let Some(spared) = self.guard.spared(&network) {
            return wrong(format!(
                "{spared} is never banned: this machine, a trusted proxy (MREG_TRUSTED_PROXIES) or a network of \
                 MREG_DDOS_ALLOWED_NETWORKS"
            ));
        }
        if network.contains(&asking.to_canonical()) {
            return wrong("you are calling from there yourself".to_owned());
        }
        Ok(())
    }
}

fn of_gateway(admin: &Admin) -> Result<(), AccessError> {
    if admin.administers_gateway() {
        return Ok(());
    }
    Err(AccessError::Forbidden("addresses are everybody's: only an administrator of the gateway sees and changes bans"))
}

fn note(text: &str) -> Result<String, &'static str> {
    let text = text.trim();
    if text.chars().count() > LONGEST_NOTE || text.chars().any(char::is_control) {
        return Err("at most 500 characters, without line breaks");
    }
    Ok(text.to_owned())
}

fn view(ban: &Ban, now: i64) -> BanView {
    let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    BanView {
        address: written(&ban.network),
        state: ban.state(now),
        since: at(ban.since),
        until: at(ban.until),
        reason: ban.reason,
        note: text(&ban.note),
        made_by: ban.made_by.clone(),
        refusals: ban.refusals,
        earlier_bans: ban.earlier,
        requests_prevented: ban.prevented.load(Relaxed),
        false_positive: ban.false_positive.load(Relaxed),
        lifted: ban.lifted.as_ref().map(|lifted| LiftView {
            at: at(lifted.at),
            reason: if lifted.wrong { LiftReason::Wrong } else { LiftReason::Served },
            note: text(&lifted.note),
            by: lifted.by.clone(),
        }),
    }
}
