//! Events on their way to the application: one bounded queue, in the order in
//! which the rules made them.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::event::{Event, Observer};

#[derive(Debug, Default)]
struct Inner {
    queue: VecDeque<Event>,
    /// Nothing more comes.
    ended: bool,
    /// Nobody takes them any more.
    unwanted: bool,
    /// Somebody is handing them to the observer.
    handing_out: bool,
}

/// **Invariant:** events are pushed under the client's lock and never wait there; whoever
/// pushed waits for room afterwards, before reading on.
pub(crate) struct EventQueue {
    inner: Mutex<Inner>,
    readable: Notify,
    writable: Notify,
    max: usize,
    observer: Option<Arc<dyn Observer>>,
}

impl std::fmt::Debug for EventQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventQueue")
            .field("waiting", &self.inner.lock().queue.len())
            .finish_non_exhaustive()
    }
}

impl EventQueue {
    pub(crate) fn new(max: usize, observer: Option<Arc<dyn Observer>>) -> Self {
        Self {
            inner: Mutex::default(),
            readable: Notify::new(),
            writable: Notify::new(),
            max: max.max(1),
            observer,
        }
    }

    pub(crate) fn push_all(&self, events: impl IntoIterator<Item = Event>) {
        let mut inner = self.inner.lock();
        if !inner.unwanted {
            inner.queue.extend(events);
        }
    }

    /// Wakes who takes events; with an observer, hands them to it, unless another task
    /// is doing so. `dealt_with` hears of each batch that was handed over.
    pub(crate) fn settle(&self, mut dealt_with: impl FnMut(&[Handled])) {
        let Some(observer) = &self.observer else {
            if !self.inner.lock().queue.is_empty() {
                self.readable.notify_one();
            }
            return;
        };
        {
            let mut inner = self.inner.lock();
            if inner.handing_out || inner.queue.is_empty() {
                return;
            }
            inner.handing_out = true;
        }
        let mut handled = Vec::new();
        loop {
            let batch = {
                let mut inner = self.inner.lock();
                if inner.queue.is_empty() {
                    inner.handing_out = false;
                    return;
                }
                std::mem::take(&mut inner.queue)
            };
            handled.clear();
            for event in batch {
                handled.extend(Handled::of(&event));
                observer.event(event);
            }
            dealt_with(&handled);
        }
    }

    /// Waits until there is room again.
    pub(crate) async fn room(&self) {
        if self.observer.is_some() {
            return;
        }
        loop {
            let waiting = self.writable.notified();
            {
                let inner = self.inner.lock();
                if inner.queue.len() < self.max || inner.unwanted {
                    return;
                }
            }
            waiting.await;
        }
    }

    pub(crate) async fn next(&self) -> Option<Event> {
        loop {
            let waiting = self.readable.notified();
            {
                let mut inner = self.inner.lock();
                if let Some(event) = inner.queue.pop_front() {
                    if inner.queue.len() + 1 == self.max {
                        self.writable.notify_waiters();
                    }
                    return Some(event);
                }
                if inner.ended {
                    return None;
                }
            }
            waiting.await;
        }
    }

    pub(crate) fn try_next(&self) -> Option<Event> {
        let mut inner = self.inner.lock();
        let event = inner.queue.pop_front()?;
        if inner.queue.len() + 1 == self.max {
            self.writable.notify_waiters();
        }
        Some(event)
    }

    /// Nothing more comes.
    pub(crate) fn end(&self) {
        self.inner.lock().ended = true;
        self.readable.notify_one();
    }

    /// Nobody takes them any more.
    pub(crate) fn unwanted(&self) {
        let mut inner = self.inner.lock();
        inner.unwanted = true;
        inner.queue.clear();
        drop(inner);
        self.writable.notify_waiters();
    }
}

/// An entry that the application has dealt with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Handled {
    pub(crate) conversation: crate::id::ConversationId,
    pub(crate) at: crate::cursor::Cursor,
    pub(crate) sender: crate::id::UserId,
}

impl Handled {
    pub(crate) fn of(event: &Event) -> Option<Self> {
        match event {
            Event::Entry(entry) => Some(Self {
                conversation: entry.conversation,
                at: crate::cursor::Cursor::of(entry),
                sender: entry.sender,
            }),
            Event::Own(own) => {
                Some(Self { conversation: own.log, at: own.cursor, sender: own.sender })
            }
            _ => None,
        }
    }
}
