//! Faults, and traffic while they are at work: what the fault stories share.

mod facts;
mod load;
mod tcp_proxy;

pub use facts::{Facts, Previewed};
pub use load::{Load, all_answered, crowd, speak_once_each};
pub use tcp_proxy::TcpProxy;
