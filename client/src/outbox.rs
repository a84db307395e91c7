//! One conversation's messages without an answer, and their numbers on the
//! stream that is open now. Pure.
//!
//! **Invariants:** messages leave for the wire in the order they came; the
//! content of one never changes; one that was ever tried goes with `again`.

use std::collections::VecDeque;
use std::time::Instant;

use crate::draft::Content;
use crate::id::MessageId;

/// Messages under way on one stream, at the most. Refusals for now halve what is allowed, each
/// answer adds one again: what is refused with all its followers is not sent over and over.
const WINDOW_MAX: usize = 1_024;

/// A message without an answer. `W` is who waits for it.
#[derive(Debug)]
pub(crate) struct Queued<W> {
    pub(crate) id: MessageId,
    pub(crate) content: Content,
    /// It may be sent once the file has got this far; 0: at once.
    pub(crate) durable_at: u64,
    /// Whether it may have been sent before.
    pub(crate) tried: bool,
    pub(crate) waiter: Option<W>,
    number: u64,
    /// The last stream that was left with it under way (its generation), and its number there.
    left: Option<(u64, u64)>,
}

impl<W> Queued<W> {
    pub(crate) fn new(id: MessageId, content: Content) -> Self {
        Self { id, content, durable_at: 0, tried: false, waiter: None, number: 0, left: None }
    }
}

/// Why nothing is sent just now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Pause {
    None,
    /// Until then.
    Until(Instant),
    /// Until there is a new token.
    Token,
}

/// One message to be written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Outgoing {
    pub(crate) number: u64,
    pub(crate) again: bool,
    pub(crate) id: MessageId,
    pub(crate) content: Content,
}

#[derive(Debug)]
pub(crate) struct Outbox<W> {
    items: VecDeque<Queued<W>>,
    /// The number that the next message gets which has none on this stream.
    next_number: u64,
    /// Where in `items` writing goes on.
    unwritten: usize,
    /// A send was refused for now: everything from this number on goes again.
    refused_from: Option<u64>,
    pause: Pause,
    /// Messages that may be under way now.
    window: usize,
}

impl<W> Default for Outbox<W> {
    fn default() -> Self {
        Self {
            items: VecDeque::new(),
            next_number: 1,
            unwritten: 0,
            refused_from: None,
            pause: Pause::None,
            window: WINDOW_MAX,
        }
    }
}

impl<W> Outbox<W> {
    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(crate) fn pause(&self) -> Pause {
        self.pause
    }

    pub(crate) fn push(&mut self, message: Queued<W>) {
        self.items.push_back(message);
    }

    /// A new stream after `left` (its generation): numbers start at 1, with the oldest message.
    pub(crate) fn start_stream(&mut self, left: Option<u64>) {
        for item in &mut self.items {
            let number = std::mem::take(&mut item.number);
            if let Some(generation) = left
                && number > 0
            {
                item.left = Some((generation, number));
            }
        }
        self.next_number = 1;
        self.unwritten = 0;
        self.refused_from = None;
    }

    /// Whether something could be written at `now`.
    pub(crate) fn is_ready(&self, now: Instant, durable_upto: u64) -> bool {
        let open = match self.pause {
            Pause::None => true,
            Pause::Until(end) => now >= end,
            Pause::Token => false,
        };
        let next = self.next_index();
        open && next < self.window
            && self.items.get(next).is_some_and(|item| item.durable_at <= durable_upto)
    }

    /// The next message to write, if it may be written now. Counts it as tried.
    pub(crate) fn next_to_write(&mut self, now: Instant, durable_upto: u64) -> Option<Outgoing> {
        if !self.is_ready(now, durable_upto) {
            return None;
        }
        self.pause = Pause::None;
        self.unwritten = self.next_index();
        self.refused_from = None;
        let item = self.items.get_mut(self.unwritten)?;
        self.unwritten += 1;
        if item.number == 0 {
            item.number = self.next_number;
            self.next_number += 1;
        }
        let again = std::mem::replace(&mut item.tried, true);
        Some(Outgoing { number: item.number, again, id: item.id, content: item.content.clone() })
    }

    /// The message has its answer: takes it out.
    pub(crate) fn remove(&mut self, id: MessageId) -> Option<Queued<W>> {
        let index = self.items.iter().position(|item| item.id == id)?;
        self.remove_at(index)
    }

    /// The same, by its number on this stream.
    pub(crate) fn remove_numbered(&mut self, number: u64) -> Option<Queued<W>> {
        let index = self.index_of(number)?;
        self.remove_at(index)
    }

    /// The same, by its number on a stream that was left, and is still read.
    pub(crate) fn remove_left(&mut self, generation: u64, number: u64) -> Option<Queued<W>> {
        let index = self.items.iter().position(|item| item.left == Some((generation, number)))?;
        self.remove_at(index)
    }

    /// A send is refused for now: it and all after it go again, after the pause.
    /// Says whether the number is one of this stream.
    pub(crate) fn refuse_for_now(&mut self, number: u64, pause: Pause) -> bool {
        if self.index_of(number).is_none() {
            return false;
        }
        self.window = (self.window / 2).max(1);
        self.refused_from = Some(self.refused_from.map_or(number, |first| first.min(number)));
        self.pause = pause;
        true
    }

    /// A send is refused because an earlier one has to come first. If that one is not
    /// known to be refused, everything from here on goes again after `pause`; says so.
    pub(crate) fn refuse_as_follower(&mut self, number: u64, pause: Pause) -> bool {
        self.refused_from.is_none_or(|first| first > number) && self.refuse_for_now(number, pause)
    }

    /// Waits, whatever was refused: a stream cannot be had before.
    pub(crate) fn set_pause(&mut self, pause: Pause) {
        self.pause = pause;
    }

    /// Takes everything out, oldest first.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Queued<W>> {
        self.unwritten = 0;
        self.refused_from = None;
        std::mem::take(&mut self.items).into_iter()
    }

    fn next_index(&self) -> usize {
        let Some(from) = self.refused_from else {
            return self.unwritten;
        };
        // Numbers rise along the queue; those without one come last.
        self.items
            .iter()
            .position(|item| item.number == 0 || item.number >= from)
            .unwrap_or(self.items.len())
            .min(self.unwritten)
    }

    fn index_of(&self, number: u64) -> Option<usize> {
        if number == 0 {
            return None;
        }
        // Answers come mostly in order, so that it is near the front.
        self.items.iter().position(|item| item.number == number)
    }

    fn remove_at(&mut self, index: usize) -> Option<Queued<W>> {
        if index < self.unwritten {
            self.unwritten -= 1;
        }
        self.window = (self.window + 1).min(WINDOW_MAX);
        self.items.remove(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use std::time::Duration;

    fn outbox(ids: std::ops::RangeInclusive<u8>) -> Outbox<()> {
        let mut outbox = Outbox::default();
        for id in ids {
            outbox.push(message(id));
        }
        outbox
    }

    fn message(id: u8) -> Queued<()> {
        Queued::new(MessageId([id; 16]), Content::plain(1, 0, Bytes::from(vec![id])))
    }

    fn write(outbox: &mut Outbox<()>, now: Instant) -> Vec<(u64, u8, bool)> {
        std::iter::from_fn(|| outbox.next_to_write(now, 0))
            .map(|sent| (sent.number, sent.id.0[0], sent.again))
            .collect()
    }

    #[test]
    fn numbers_start_at_one_on_each_stream_and_the_second_try_says_so() {
        let now = Instant::now();
        let mut outbox = outbox(1..=2);
        assert_eq!(write(&mut outbox, now), [(1, 1, false), (2, 2, false)]);
        outbox.push(message(3));
        assert_eq!(write(&mut outbox, now), [(3, 3, false)]);
        assert!(outbox.remove_numbered(1).is_some());
        assert!(outbox.remove_numbered(1).is_none());
        outbox.start_stream(None);
        outbox.push(message(4));
        assert_eq!(write(&mut outbox, now), [(1, 2, true), (2, 3, true), (3, 4, false)]);
    }

    #[test]
    fn after_a_refusal_for_now_it_and_all_later_ones_go_again_with_their_numbers() {
        let now = Instant::now();
        let later = now + Duration::from_millis(500);
        let mut outbox = outbox(1..=4);
        write(&mut outbox, now);
        outbox.remove_numbered(1);
        assert!(outbox.refuse_for_now(2, Pause::Until(later)));
        outbox.refuse_as_follower(3, Pause::Until(now));
        outbox.refuse_as_follower(4, Pause::Until(now));
        outbox.push(message(5));
        assert_eq!(write(&mut outbox, now), []);
        assert_eq!(
            write(&mut outbox, later),
            [(2, 2, true), (3, 3, true), (4, 4, true), (5, 5, false)]
        );
        assert!(!outbox.refuse_for_now(1, Pause::None));
        assert_eq!(write(&mut outbox, later), []);
    }

    #[test]
    fn a_final_refusal_uses_its_number_up() {
        let now = Instant::now();
        let mut outbox = outbox(1..=2);
        write(&mut outbox, now);
        assert!(outbox.remove_numbered(1).is_some());
        outbox.push(message(3));
        assert_eq!(write(&mut outbox, now), [(3, 3, false)]);
        assert_eq!(outbox.drain().count(), 2);
    }

    #[test]
    fn a_follower_whose_predecessor_is_unknown_goes_again_from_itself() {
        let now = Instant::now();
        let mut outbox = outbox(1..=3);
        write(&mut outbox, now);
        outbox.refuse_as_follower(2, Pause::None);
        assert_eq!(write(&mut outbox, now), [(2, 2, true), (3, 3, true)]);
    }

    #[test]
    fn refusals_narrow_what_is_under_way_and_answers_widen_it() {
        let now = Instant::now();
        let mut outbox = Outbox::default();
        for id in 0..2 * WINDOW_MAX as u128 {
            let id = MessageId(id.to_be_bytes());
            outbox.push(Queued::new(id, Content::plain(1, 0, Bytes::new())));
        }
        let mut number = 1;
        let mut allowed = WINDOW_MAX;
        assert_eq!(write(&mut outbox, now).len(), allowed);
        while allowed > 1 {
            outbox.refuse_for_now(number, Pause::None);
            allowed /= 2;
            assert_eq!(write(&mut outbox, now).len(), allowed);
        }
        for _ in 0..3 {
            assert!(outbox.remove_numbered(number).is_some());
            number += 1;
            write(&mut outbox, now);
        }
        outbox.refuse_for_now(number, Pause::None);
        assert_eq!(write(&mut outbox, now).len(), 2);
    }

    #[test]
    fn an_answer_on_a_stream_that_was_left_finds_its_message() {
        let now = Instant::now();
        let mut outbox = outbox(1..=3);
        write(&mut outbox, now);
        outbox.start_stream(Some(7));
        // Written anew, with other numbers.
        assert!(outbox.remove_left(7, 1).is_some_and(|message| message.id.0[0] == 1));
        assert_eq!(write(&mut outbox, now), [(1, 2, true), (2, 3, true)]);
        assert!(outbox.remove_left(6, 2).is_none());
        assert!(outbox.remove_left(7, 2).is_some_and(|message| message.id.0[0] == 2));
        assert!(outbox.remove_numbered(2).is_some_and(|message| message.id.0[0] == 3));
    }

    #[test]
    fn a_pause_for_a_token_ends_with_the_token() {
        let now = Instant::now();
        let mut outbox = outbox(1..=1);
        write(&mut outbox, now);
        outbox.refuse_for_now(1, Pause::Token);
        assert!(!outbox.is_ready(now + Duration::from_secs(3600), 0));
        outbox.set_pause(Pause::None);
        assert_eq!(write(&mut outbox, now), [(1, 1, true)]);
    }

    #[test]
    fn what_is_not_in_the_file_yet_is_not_sent_nor_anything_after_it() {
        let now = Instant::now();
        let mut outbox = outbox(1..=1);
        let mut second = message(2);
        second.durable_at = 7;
        outbox.push(second);
        outbox.push(message(3));
        assert_eq!(write(&mut outbox, now), [(1, 1, false)]);
        assert!(outbox.next_to_write(now, 6).is_none());
        assert!(outbox.next_to_write(now, 7).is_some_and(|sent| sent.number == 2));
    }
}
