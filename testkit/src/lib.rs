//! Stand-ins and real peers that the gateway's tests speak to.
