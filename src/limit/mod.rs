//! ENGINE: how much each may call. What a tenant is granted is data, kept with the tenant and read into [`Terms`].

pub mod terms;

pub use terms::Terms;
