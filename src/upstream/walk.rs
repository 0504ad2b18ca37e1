//! The walk over the replicas of a server, first choice first: on to the next after a failure only if not a byte could have been
//! acted on, or what is asked is known to be harmless. A replica without a free place is passed over; where nothing else is
//! left, the first of those is waited for. What is done with a place is the visitor's affair.

use std::time::Instant;

use crate::balance::{InFlight, Order};
use crate::fault::Fault;
use crate::upstream::http::HttpServer;
use crate::upstream::trip::Trip;

impl HttpServer {
    /// Whom to try for this caller, first choice first.
    pub fn order(&self, caller: u64) -> Result<Order, Fault> {
        self.balance().order(caller, &mut rand::rng(), Instant::now())
    }

    /// Visits replicas in this order, with a place on each, until a visit goes well. `again` allows another after one that may
    /// have acted on what it was sent. Fails with what the last one was about.
    pub async fn walk<T, V: Future<Output = Result<T, Fault>>>(
        &self,
        trip: &Trip,
        mut order: Order,
        again: bool,
        mut visit: impl FnMut(InFlight) -> V,
    ) -> Result<T, Fault> {
        let (mut passed_over, mut last) = (None, None);
        loop {
            let free = order.find_map(|replica| {
                let place = self.balance().enter(replica, Instant::now());
                if place.is_none() {
                    passed_over = passed_over.or(Some(replica));
                }
                place
            });
            let place = match (free, passed_over) {
                (Some(place), _) => trip.begin(place),
                (None, Some(replica)) => {
                    passed_over = None;
                    Box::pin(self.place(trip, replica)).await?
                }
                (None, None) => return Err(last.unwrap_or_else(|| self.balance().none_left(Instant::now()))),
            };
            match visit(place).await {
                Ok(found) => return Ok(found),
                Err(fault) if fault.may_go_on(again) => last = Some(fault),
                Err(fault) => return Err(fault),
            }
        }
    }

    /// A place on this replica and no other, in turn where it has none free: a session lives where it was opened.
    pub async fn place(&self, trip: &Trip, replica: usize) -> Result<InFlight, Fault> {
        let place = match self.balance().enter(replica, Instant::now()) {
            Some(place) => place,
            None => Box::pin(self.balance().enter_in_turn(replica, trip.until())).await?,
        };
        Ok(trip.begin(place))
    }
}
