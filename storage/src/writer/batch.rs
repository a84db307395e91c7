//! One batch: the messages side by side as the store takes them, and apart from
//! them what the writer keeps of each. Its vectors are used again and again.

use petrel_core::store::Append;

use super::{Pending, Ticket};

#[derive(Debug)]
pub(super) struct Batch<T> {
    pub(super) appends: Vec<Append>,
    pub(super) tags: Vec<T>,
    pub(super) tickets: Vec<Ticket>,
}

impl<T> Batch<T> {
    pub(super) fn with_capacity(messages: usize) -> Self {
        Self {
            appends: Vec::with_capacity(messages),
            tags: Vec::with_capacity(messages),
            tickets: Vec::with_capacity(messages),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.appends.len()
    }

    pub(super) fn push(&mut self, pending: Pending<T>) {
        self.appends.push(pending.append);
        self.tags.push(pending.tag);
        self.tickets.push(pending.ticket);
    }

    /// Empties the batch, from its beginning.
    pub(super) fn drain(&mut self) -> impl DoubleEndedIterator<Item = Pending<T>> {
        self.appends
            .drain(..)
            .zip(self.tags.drain(..))
            .zip(self.tickets.drain(..))
            .map(|((append, tag), ticket)| Pending { append, tag, ticket })
    }
}
