//! ENGINE: how much each may call. [`limits`] asks them in order; [`fair`] is the heart, of which [`pace`], [`share`], [`water`] and
//! [`bucket`] are the parts. What a tenant is granted is data, kept with the tenant and read into [`Terms`]; what a server takes is
//! part of its description, and comes here as [`Rates`].

pub mod board;
pub mod bucket;
pub mod buckets;
pub mod exact;
pub mod fair;
pub mod figures;
pub mod guard;
pub mod limits;
mod pace;
pub mod rates;
pub mod seats;
pub mod share;
pub mod terms;
pub mod water;
mod whose;

pub use limits::{Absent, Admitted, Limits, Permit, Refused, Who};
pub use rates::Rates;
pub use seats::{NoSeat, Seat, Seats};
pub use terms::Terms;
pub use whose::Limit;
