//! ENGINE: how much may be asked, and by whom from where. No I/O on the way of a request; time comes as an argument.

pub mod guard;
