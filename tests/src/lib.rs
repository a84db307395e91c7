//! What Petrel's tests share: gateways as real processes with recorded clients
//! ([`cluster`]), faults and traffic ([`fault`]), and the history checker, which judges a run from the outside, by what
//! clients and the fault injector recorded. [`raw`] speaks the protocol by hand, badly if need be;
//! [`tap`] sees what a client says behind its TLS.

pub mod checker;
pub mod cluster;
pub mod fault;
pub mod raw;
pub mod tap;
