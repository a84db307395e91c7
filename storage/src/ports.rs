//! Ports whose statements are the same text for both stores: each is written once, as a macro over
//! the store, since the two kinds of connection are types of their own.

mod account;
mod group;
mod relation;

pub(crate) use account::account_store;
pub(crate) use group::group_store;
pub(crate) use relation::relation_store;
