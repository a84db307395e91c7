//! What a history says about a stretch of time.

use std::collections::HashMap;
use std::time::Duration;

use crate::checker::History;
use crate::checker::event::{FaultKind, What};

/// A stretch of a history.
#[derive(Debug)]
pub struct Facts<'a> {
    history: &'a History,
    /// Microseconds of the recorder's clock.
    from_us: u64,
    to_us: u64,
}

/// How the messages sent in a stretch were previewed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Previewed {
    /// Messages sent.
    pub sent: usize,
    /// Of these: previewed at somebody's within the bound.
    pub in_time: usize,
    /// The longest time from a send to its first preview.
    pub worst: Duration,
}

impl<'a> Facts<'a> {
    /// From the last fault of a kind to the heal after it (or the end), without the first and
    /// the last so many.
    #[must_use]
    pub fn of_last(history: &'a History, kind: FaultKind, margin: Duration) -> Option<Self> {
        let events = history.events();
        let start = events
            .iter()
            .rposition(|e| matches!(e.what, What::Fault { kind: k, .. } if k == kind))?;
        let after = events.get(start..)?;
        let end = after.iter().find(|e| matches!(e.what, What::Heal)).or(after.last())?.at_us;
        let margin_us = u64::try_from(margin.as_micros()).unwrap_or(u64::MAX);
        let from_us = after.first()?.at_us.saturating_add(margin_us);
        Some(Self { history, from_us, to_us: end.saturating_sub(margin_us) })
    }

    fn within(&self) -> impl Iterator<Item = &'a What> {
        let stretch = self.from_us..self.to_us;
        let events = self.history.events().iter();
        events.filter(move |e| stretch.contains(&e.at_us)).map(|e| &e.what)
    }

    /// Messages sent.
    #[must_use]
    pub fn sends(&self) -> usize {
        self.within().filter(|what| matches!(what, What::InvokeSend { .. })).count()
    }

    /// Messages acknowledged.
    #[must_use]
    pub fn acks(&self) -> usize {
        self.within().filter(|what| matches!(what, What::AckSend { .. })).count()
    }

    /// Entries handed out.
    #[must_use]
    pub fn delivers(&self) -> usize {
        self.within().filter(|what| matches!(what, What::Deliver { .. })).count()
    }

    /// How fast what was sent in this stretch was previewed.
    #[must_use]
    pub fn previewed(&self, bound: Duration) -> Previewed {
        let mut first = HashMap::new();
        for event in self.history.events() {
            if let What::Preview { id, .. } = event.what {
                first.entry(id).or_insert(event.at_us);
            }
        }
        let mut all = Previewed::default();
        for event in self.history.events() {
            let What::InvokeSend { id, .. } = event.what else { continue };
            if !(self.from_us..self.to_us).contains(&event.at_us) {
                continue;
            }
            all.sent += 1;
            if let Some(at) = first.get(&id) {
                let took = Duration::from_micros(at.saturating_sub(event.at_us));
                all.worst = all.worst.max(took);
                all.in_time += usize::from(took <= bound);
            }
        }
        all
    }

    /// How many of the messages that a session sent in this stretch have an answer, and the
    /// slowest of these.
    #[must_use]
    pub fn answers(&self, session: u64) -> (usize, Duration) {
        let mut sent = HashMap::new();
        let (mut count, mut worst) = (0, Duration::ZERO);
        for event in self.history.events() {
            match event.what {
                What::InvokeSend { session: by, id, .. }
                    if by == session && (self.from_us..self.to_us).contains(&event.at_us) =>
                {
                    sent.insert(id, event.at_us);
                }
                What::AckSend { id, .. } => {
                    if let Some(at) = sent.remove(&id) {
                        count += 1;
                        worst = worst.max(Duration::from_micros(event.at_us - at));
                    }
                }
                _ => {}
            }
        }
        (count, worst)
    }
}
