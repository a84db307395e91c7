//! An emulated bad network: a UDP relay between clients and a server that delays, loses, doubles,
//! reorders and damages what crosses it, by a [`Profile`]. No privileges are needed. For TCP there are a
//! relay that delays alone ([`Stretched`]), and a network device that does all of it to IP packets
//! ([`PacketLink`]).
//!
//! Each client address is a link of its own, with its own random numbers, queue and bursts in each
//! direction, and its own socket towards the server. Two threads do the work: one reads and
//! decides each packet's fate ([`path`]), one sends what is due, to within a fraction of a
//! millisecond. Both ways of changing one's address are emulated on the server's side: a NAT that
//! forgets (a new port) and another network (a new address).

mod alone;
mod counters;
mod course;
mod packets;
mod path;
pub mod profile;
mod relay;
mod schedule;
mod stretched;

pub use alone::{LinkOptions, run};
pub use counters::{Counts, DirectionCounts};
pub use packets::PacketLink;
pub use profile::{Direction, Loss, Profile, Rate};
pub use relay::Link;
pub use stretched::Stretched;
