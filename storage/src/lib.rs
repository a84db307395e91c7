//! Placeholder.

pub mod budget;
pub mod writer;
