//! The way of a copy from the connection's datagrams to the stream that it belongs to.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use parking_lot::Mutex;

use super::{Copied, Splice};
use crate::wire;

/// Copies that wait for one stream, at the most; what comes then is dropped.
const WAITING_MAX: usize = 16;

/// The streams of one connection that take copies.
#[derive(Debug, Default)]
pub struct Inboxes {
    streams: Mutex<HashMap<u64, Arc<Inbox>>>,
}

#[derive(Debug, Default)]
struct Inbox(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    copies: VecDeque<(u64, Bytes)>,
    reader: Option<Waker>,
}

impl Inboxes {
    /// Hands a copy to its stream. Says whether there is one.
    pub fn deliver(&self, copy: wire::Copy) -> bool {
        let Some(inbox) = self.streams.lock().get(&copy.stream).cloned() else { return false };
        let mut waiting = inbox.0.lock();
        if waiting.copies.len() < WAITING_MAX {
            waiting.copies.push_back((copy.offset, copy.data));
        }
        if let Some(reader) = waiting.reader.take() {
            reader.wake();
        }
        true
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
    }
}

impl Spliced {
    /// From now on copies are taken too. To be called for each stream of a connection once.
    pub fn take_copies(&mut self, stream: u64, all: &Arc<Inboxes>) {
        let inbox = Arc::<Inbox>::default();
        all.streams.lock().insert(stream, Arc::clone(&inbox));
        self.copies = Some(Copies { stream, inbox, all: Arc::clone(all) });
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
        assert!(!all.deliver(copy(4, 0, b"ab")), "nobody takes it");
        stream.take_copies(4, &all);
        assert!(all.deliver(copy(4, 0, b"ab")));
        assert!(!all.deliver(copy(8, 0, b"xx")));
        assert_eq!(stream.poll_copy(&mut cx, |_| ()), Poll::Ready(Bytes::from_static(b"ab")));
        assert_eq!(stream.poll_copy(&mut cx, |_| ()), Poll::Pending);
        assert_eq!(stream.from_stream(0, Bytes::from_static(b"abc")), "c");
        drop(stream);
        assert!(!all.deliver(copy(4, 3, b"d")));
    }

    #[test]
    fn a_stream_that_is_not_read_holds_few_copies() {
        let mut cx = Context::from_waker(Waker::noop());
        let all = Arc::<Inboxes>::default();
        let mut stream = Spliced::default();
        stream.take_copies(4, &all);
        for n in 0..100 {
            all.deliver(copy(4, n, b"a"));
        }
        let mut came = 0;
        while stream.poll_copy(&mut cx, |_| ()).is_ready() {
            came += 1;
        }
        assert_eq!(came, WAITING_MAX);
    }
}
