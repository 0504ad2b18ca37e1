//! Faults that were published of gateways and authorization servers like this one, a test for each class: what an attacker does,
//! and what becomes of it here. The comment of a test names the advisories that it stands for. Two more have files of their own:
//! a flood of registrations (`flood`), and secrets in logs (`log_scan`).

mod credentials;
mod network;
mod person;
