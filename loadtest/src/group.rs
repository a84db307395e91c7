//! Groups: bare members, each on a connection of its own, and their judge.
//!
//! One message comes to a thousand deliveries, so a delivery must cost the harness next to
//! nothing: frames are read in place (`scan`), a message is known by the number in its id, and
//! what a member has seen is an interval (`judge`). Nothing is locked across members, decoded or
//! allocated for a delivery.

#![allow(
    clippy::disallowed_methods,
    reason = "its tasks are bounded by the members it was asked for and end with their connections"
)]

pub mod judge;
pub mod load;
pub mod scan;
pub mod seat;
pub mod text;
