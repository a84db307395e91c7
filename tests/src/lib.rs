//! What Petrel's tests share: the history checker, which judges a run from the
//! outside, by what clients and the fault injector recorded.

pub mod checker;
