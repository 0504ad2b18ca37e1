//! Bans that somebody makes and takes back. Whether they may, others have found out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use ipnet::IpNet;
use time::OffsetDateTime;

use super::bans::{Ban, Lifted, Reason, length};
use super::figures::Event;
use super::{Guard, network};
use crate::store::{Store, StoreError, micros};

/// Why a network is not banned by hand.
#[derive(Debug)]
pub enum NotBanned {
    /// It is already.
    Already,
    /// There is room for no other ban.
    Full,
    /// It could not be stored.
    Store(StoreError),
}

impl Guard {
    /// All bans that are remembered.
    pub fn all_bans(&self) -> Vec<Arc<Ban>> {
        self.0.bans.all()
    }

    /// The last ban of this network.
    pub fn last_ban(&self, network: &IpNet) -> Option<Arc<Ban>> {
        self.0.bans.get(network)
    }

    /// A network that is never banned and is a part of this one, or the other way round.
    pub fn spared(&self, network: &IpNet) -> Option<&IpNet> {
        self.0.spared.iter().find(|spared| network::overlap(spared, network))
    }

    /// Bans a network, for as long as said or as one that begins by itself.
    pub async fn ban_by_hand(
        &self,
        store: &Store,
        network: IpNet,
        (note, by): (String, &str),
        lasts: Option<Duration>,
        now: OffsetDateTime,
    ) -> Result<Arc<Ban>, NotBanned> {
        let (time, before) = (micros(now), self.0.bans.get(&network));
        if before.as_ref().is_some_and(|ban| ban.holds(time)) {
            return Err(NotBanned::Already);
        }
        // Asked before it is stored: what is stored is to hold.
        if !self.0.bans.has_room_for(&network, time) {
            return Err(NotBanned::Full);
        }
        let earlier = before.map_or(0, |ban| ban.remembered(time));
        let lasts = lasts.unwrap_or_else(|| length(self.0.first, earlier));
        let ban = Ban { note, made_by: Some(by.to_owned()), ..Ban::begin(network, Reason::Hand, lasts, earlier, time) };
        let ban = self.store(store, ban).await.map_err(NotBanned::Store)?;
        self.told("ban.begin", &ban);
        Ok(ban)
    }

    /// Takes a ban back.
    pub async fn lift(
        &self,
        store: &Store,
        ban: &Ban,
        lifted: Lifted,
        now: OffsetDateTime,
    ) -> Result<Arc<Ban>, StoreError> {
        // What an administrator banned was no mistake of the guard's.
        let found = lifted.wrong && ban.reason != Reason::Hand;
        let known = ban.false_positive.load(Relaxed);
        let lifted = Ban { lifted: Some(lifted), false_positive: AtomicBool::new(known || found), ..ban.clone() };
        let lifted = self.store(store, lifted).await?;
        self.told("ban.end", &lifted);
        if found && !known {
            self.count(Event::FalsePositive, now);
        }
        Ok(lifted)
    }
}
