//! Which writer a message goes to.
//!
//! One writer makes the largest batches, which take the least of the database's time for a message; several have more
//! commits under way. So the first writer takes everything while it keeps up, and the next what comes beyond that.
//! As long as a message of a conversation has no answer, the conversation stays with its writer.

use std::sync::Arc;

use parking_lot::Mutex;
use petrel_core::id::ConversationId;
use rustc_hash::FxHashMap;

/// Messages without an answer at one writer, from which on the next one takes other conversations.
pub(super) const BUSY_AT: usize = 16;

#[derive(Debug)]
struct Table {
    /// Conversations with messages that have no answer: their writer, and how many.
    under_way: FxHashMap<ConversationId, (usize, usize)>,
    /// Messages without an answer, by writer.
    loads: Vec<usize>,
}

impl Table {
    fn choose(&self) -> usize {
        let keeps_up = self.loads.iter().position(|load| *load < BUSY_AT);
        let least = || self.loads.iter().enumerate().min_by_key(|(_, load)| **load);
        keeps_up.or_else(|| least().map(|(writer, _)| writer)).unwrap_or_default()
    }
}

#[derive(Debug)]
pub(super) struct Routes(Arc<Mutex<Table>>);

impl Routes {
    pub(super) fn new(writers: usize) -> Self {
        let table = Table { under_way: FxHashMap::default(), loads: vec![0; writers] };
        Self(Arc::new(Mutex::new(table)))
    }

    /// A place for one more message of this conversation.
    pub(super) fn place(&self, conversation: ConversationId) -> Place {
        let mut table = self.0.lock();
        let chosen = table.choose();
        let (writer, messages) = table.under_way.entry(conversation).or_insert((chosen, 0));
        *messages += 1;
        let writer = *writer;
        table.loads[writer] += 1;
        drop(table);
        Place { table: Arc::clone(&self.0), conversation, writer }
    }
}

/// A message's place at a writer, held until it was answered.
#[derive(Debug)]
pub(super) struct Place {
    table: Arc<Mutex<Table>>,
    conversation: ConversationId,
    pub(super) writer: usize,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut table = self.table.lock();
        table.loads[self.writer] -= 1;
        if let Some((_, messages)) = table.under_way.get_mut(&self.conversation) {
            *messages -= 1;
            if *messages == 0 {
                table.under_way.remove(&self.conversation);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conversation(n: u8) -> ConversationId {
        ConversationId([n; 16])
    }

    /// One each for as many conversations as make a writer busy, and some more.
    fn places(routes: &Routes, from: u8, more: u8) -> Vec<Place> {
        let busy = u8::try_from(BUSY_AT).expect("a small number");
        (from..from + busy + more).map(|n| routes.place(conversation(n))).collect()
    }

    #[test]
    fn the_first_writer_takes_all_that_it_keeps_up_with() {
        let routes = Routes::new(3);
        let place = |n| routes.place(conversation(n));
        let mut first = places(&routes, 0, 0);
        assert!(first.iter().all(|place| place.writer == 0));
        let more = places(&routes, 20, 0);
        assert!(more.iter().all(|place| place.writer == 1));
        first.pop();
        assert_eq!(place(60).writer, 0, "it keeps up again");
    }

    #[test]
    fn a_conversation_stays_until_its_last_answer() {
        let routes = Routes::new(2);
        let place = |n| routes.place(conversation(n));
        let full = places(&routes, 0, 0);
        let (one, two) = (place(50), place(50));
        assert_eq!((one.writer, two.writer), (1, 1));
        drop(full);
        drop(one);
        let three = place(50);
        assert_eq!((place(51).writer, three.writer), (0, 1));
        drop((two, three));
        assert_eq!(place(50).writer, 0);
        assert!(routes.0.lock().under_way.is_empty());
    }

    #[test]
    fn when_all_are_busy_the_least_busy_takes_it() {
        let routes = Routes::new(2);
        let mut both = places(&routes, 0, 0);
        both.extend(places(&routes, 100, 10));
        assert_eq!(routes.0.lock().loads, [BUSY_AT + 5, BUSY_AT + 5]);
        both.retain(|place| place.writer == 0);
        assert_eq!(routes.0.lock().loads, [BUSY_AT + 5, 0]);
    }
}
