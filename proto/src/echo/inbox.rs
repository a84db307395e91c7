//! The way of a copy from the connection's datagrams to the stream that it belongs to.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use parking_lot::Mutex;

use super::{COPY_BYTES_MAX, Copied, Splice};
use crate::wire;

/// Copies that wait for one stream, at the most; what comes then is dropped.
const WAITING_MAX: usize = 16;
/// The same for all streams of a connection together.
const WAITING_MAX_OF_ALL: usize = 32;

/// The streams of one connection that take copies.
#[derive(Debug, Default)]
pub struct Inboxes {
    streams: Mutex<HashMap<u64, Arc<Inbox>>>,
    /// Copies that wait on all streams.
    waiting: AtomicUsize,
    /// Since somebody asked: whether copies came, ...
    copies: AtomicBool,
    /// ... and how often the peer said that it lost something.
    notices: AtomicU32,
}

/// What the peer said of losses in its direction since this was asked last.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Heard {
    /// How often it said that it found some.
    pub notices: u32,
    /// Whether it sent copies.
    pub copies: bool,
}

/// What became of a copy that came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Delivered {
    /// It waits for its stream's reader.
    Waits,
    /// Its stream has ended, or is not known yet.
    NoStream,
    /// Too many wait for its stream or for all, or it is too large.
    Full,
}

#[derive(Debug, Default)]
struct Inbox(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    copies: VecDeque<(u64, Bytes)>,
    reader: Option<Waker>,
}

impl Inboxes {
    /// Hands the copies of a datagram to their streams; `told` hears what became of each.
    pub fn hear(&self, echo: wire::Echo, told: impl Fn(Delivered)) {
        if echo.copies.is_empty() {
            self.notices.fetch_add(1, Ordering::Relaxed);
        } else {
            self.copies.store(true, Ordering::Relaxed);
        }
        for copy in echo.copies {
            told(self.deliver(copy));
        }
    }

    fn deliver(&self, copy: wire::Copy) -> Delivered {
        let Some(inbox) = self.streams.lock().get(&copy.stream).cloned() else {
            return Delivered::NoStream;
        };
        let mut waiting = inbox.0.lock();
        // Two at once may both find the last place, and no more than that.
        if waiting.copies.len() >= WAITING_MAX
            || copy.data.len() > COPY_BYTES_MAX
            || self.waiting.load(Ordering::Relaxed) >= WAITING_MAX_OF_ALL
        {
            return Delivered::Full;
        }
        self.waiting.fetch_add(1, Ordering::Relaxed);
        // Copied: the datagram that it came in may be far larger.
        waiting.copies.push_back((copy.offset, Bytes::copy_from_slice(&copy.data)));
        if let Some(reader) = waiting.reader.take() {
            reader.wake();
        }
        Delivered::Waits
    }

    /// What was heard of losses since this was asked last.
    pub fn take_heard(&self) -> Heard {
        Heard {
            notices: self.notices.swap(0, Ordering::Relaxed),
            copies: self.copies.swap(false, Ordering::Relaxed),
        }
    }
}

/// A stream's bytes from both ways, each once and in order.
#[derive(Debug, Default)]
pub struct Spliced {
    splice: Splice,
    copies: Option<Copies>,
}

/// A stream's place among those that take copies, given back when this is dropped.
#[derive(Debug)]
struct Copies {
    stream: u64,
    inbox: Arc<Inbox>,
    all: Arc<Inboxes>,
}

impl Drop for Copies {
    fn drop(&mut self) {
        self.all.streams.lock().remove(&self.stream);
        let left = self.inbox.0.lock().copies.drain(..).count();
        self.all.waiting.fetch_sub(left, Ordering::Relaxed);
    }
}

impl Spliced {
    /// From now on copies are taken too. To be called for each stream of a connection once.
    pub fn take_copies(&mut self, stream: u64, all: &Arc<Inboxes>) {
        let inbox = Arc::<Inbox>::default();
        all.streams.lock().insert(stream, Arc::clone(&inbox));
        self.copies = Some(Copies { stream, inbox, all: Arc::clone(all) });
    }

    /// Up to which offset the bytes have come.
    pub fn taken(&self) -> u64 {
        self.splice.taken()
    }

    /// What is new of a chunk that the stream brings, from `offset` on; perhaps nothing.
    pub fn from_stream(&mut self, offset: u64, chunk: Bytes) -> Bytes {
        self.splice.from_stream(offset, chunk)
    }

    /// The next bytes that copies bring; `told` hears what became of each copy.
    pub fn poll_copy(&mut self, cx: &mut Context<'_>, told: impl Fn(&Copied)) -> Poll<Bytes> {
        let Some(copies) = &self.copies else { return Poll::Pending };
        let mut waiting = copies.inbox.0.lock();
        while let Some((offset, data)) = waiting.copies.pop_front() {
            copies.all.waiting.fetch_sub(1, Ordering::Relaxed);
            let copied = self.splice.from_copy(offset, data);
            told(&copied);
            if let Copied::News(data) = copied {
                return Poll::Ready(data);
            }
        }
        if !waiting.reader.as_ref().is_some_and(|reader| reader.will_wake(cx.waker())) {
            waiting.reader = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy(stream: u64, offset: u64, data: &'static [u8]) -> wire::Copy {
        wire::Copy { stream, offset, data: Bytes::from_static(data) }
    }

    #[test]
    fn a_copy_reaches_its_stream_until_that_ends() {
        let mut cx = Context::from_waker(Waker::noop());
        let all = Arc::<Inboxes>::default();
        let mut stream = Spliced::default();
        assert_eq!(all.deliver(copy(4, 0, b"ab")), Delivered::NoStream, "nobody takes it");
        stream.take_copies(4, &all);
        assert_eq!(all.deliver(copy(4, 0, b"ab")), Delivered::Waits);
        assert_eq!(all.deliver(copy(8, 0, b"xx")), Delivered::NoStream);
        assert_eq!(stream.poll_copy(&mut cx, |_| ()), Poll::Ready(Bytes::from_static(b"ab")));
        assert_eq!(stream.poll_copy(&mut cx, |_| ()), Poll::Pending);
        assert_eq!(stream.from_stream(0, Bytes::from_static(b"abc")), "c");
        drop(stream);
        assert_eq!(all.deliver(copy(4, 3, b"d")), Delivered::NoStream);
    }

    #[test]
    fn what_the_peer_says_of_losses_is_told_once() {
        let all = Arc::<Inboxes>::default();
        assert_eq!(all.take_heard(), Heard::default());
        all.hear(wire::Echo { copies: Vec::new() }, |_| ());
        all.hear(wire::Echo { copies: Vec::new() }, |_| ());
        assert_eq!(all.take_heard(), Heard { notices: 2, copies: false });
        all.hear(wire::Echo { copies: vec![copy(4, 0, b"ab")] }, |delivered| {
            assert_eq!(delivered, Delivered::NoStream);
        });
        assert_eq!(all.take_heard(), Heard { notices: 0, copies: true });
        assert_eq!(all.take_heard(), Heard::default());
    }

    #[test]
    fn a_stream_that_is_not_read_holds_few_copies() {
        let mut cx = Context::from_waker(Waker::noop());
        let all = Arc::<Inboxes>::default();
        let mut stream = Spliced::default();
        stream.take_copies(4, &all);
        for n in 0..100 {
            let expected = if n < WAITING_MAX as u64 { Delivered::Waits } else { Delivered::Full };
            assert_eq!(all.deliver(copy(4, n, b"a")), expected);
        }
        let mut came = 0;
        while stream.poll_copy(&mut cx, |_| ()).is_ready() {
            came += 1;
        }
        assert_eq!(came, WAITING_MAX);
    }

    #[test]
    fn streams_that_are_not_read_hold_few_copies_together() {
        let mut cx = Context::from_waker(Waker::noop());
        let all = Arc::<Inboxes>::default();
        let mut streams: Vec<_> = (0..10).map(|_| Spliced::default()).collect();
        for round in 0..3 {
            for (n, stream) in (0u64..).zip(&mut streams) {
                if round == 0 {
                    stream.take_copies(n, &all);
                }
                for at in 0..9 {
                    assert_ne!(all.deliver(copy(n, 9 * round + at, b"a")), Delivered::NoStream);
                }
            }
            let mut came = 0;
            for stream in &mut streams {
                while stream.poll_copy(&mut cx, |_| ()).is_ready() {
                    came += 1;
                }
            }
            // Those of the first streams, in each round: a place is free again once it is read.
            assert!((9..=WAITING_MAX_OF_ALL).contains(&came), "{came}");
        }
        drop(streams);
        assert_eq!(all.waiting.load(Ordering::Relaxed), 0);
    }
}
