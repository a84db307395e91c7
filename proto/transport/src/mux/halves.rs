//! What the halves of streams do.

use std::cmp::Reverse;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};

use super::state::{Control, State};
use super::stream::{ReceivePhase, SendPhase, Stream};
use crate::error::{ClosedStream, ConnectionError, ReadError, WriteError};
use crate::stream::{Chunk, Written};

impl State {
    /// Opens a stream, if the peer allows one more.
    pub(super) fn open(&mut self) -> Poll<Result<u64, ConnectionError>> {
        if let Some(why) = &self.closed {
            return Poll::Ready(Err(why.clone()));
        }
        if self.opened >= self.opened_max {
            return Poll::Pending;
        }
        let id = self.opened << 2 | self.side.bit();
        self.opened += 1;
        let credit = self.peer.map_or(0, |peer| peer.max_stream_data_remote);
        self.streams.insert(id, Stream::new(credit, self.settings.stream_receive_window));
        Poll::Ready(Ok(id))
    }

    /// Takes a stream that the peer opened.
    pub(super) fn accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<u64, ConnectionError>> {
        if let Some(id) = self.arriving.pop_front() {
            return Poll::Ready(Ok(id));
        }
        if let Some(why) = &self.closed {
            return Poll::Ready(Err(why.clone()));
        }
        self.acceptor = Some(cx.waker().clone());
        Poll::Pending
    }

    pub(super) fn write(
        &mut self,
        id: u64,
        chunks: &mut [Bytes],
        cx: &mut Context<'_>,
    ) -> Poll<Result<Written, WriteError>> {
        if let Some(why) = &self.closed {
            return Poll::Ready(Err(why.clone().into()));
        }
        let Some(stream) = self.streams.get_mut(&id) else {
            return Poll::Ready(Err(WriteError::ClosedStream));
        };
        let sending = &mut stream.sending;
        if let Some(code) = sending.stopped {
            return Poll::Ready(Err(WriteError::Stopped(code)));
        }
        if sending.phase != SendPhase::Open {
            return Poll::Ready(Err(WriteError::ClosedStream));
        }
        let mut written = Written::default();
        if chunks.is_empty() {
            return Poll::Ready(Ok(written));
        }
        for chunk in chunks {
            let credit = sending.credit - sending.sent - sending.waiting;
            let credit = usize::try_from(credit).unwrap_or(usize::MAX);
            // No stream takes all of the connection's room.
            let has_room = self.room < self.settings.send_buffer
                && sending.room < self.settings.send_buffer / 2;
            if !chunk.is_empty() && (credit == 0 || !has_room) {
                break;
            }
            let part = chunk.split_to(credit.min(chunk.len()));
            let is_whole = chunk.is_empty();
            if !part.is_empty() {
                let room = Self::room_of(&part);
                sending.room += room;
                self.room += room;
                sending.waiting += part.len() as u64;
                written.bytes += part.len();
                sending.chunks.push_back(part);
            }
            if !is_whole {
                break;
            }
            written.chunks += 1;
        }
        if written == Written::default() {
            sending.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        self.line_up(id);
        Poll::Ready(Ok(written))
    }

    pub(super) fn finish(&mut self, id: u64) -> Result<(), ClosedStream> {
        let stream = self.streams.get_mut(&id).ok_or(ClosedStream)?;
        let sending = &mut stream.sending;
        if sending.stopped.take().is_some() {
            // It is reset already, and now that is known here.
            self.settle(id);
            return Ok(());
        }
        if sending.phase != SendPhase::Open {
            return Err(ClosedStream);
        }
        sending.phase = SendPhase::Finishing;
        if self.closed.is_none() {
            self.line_up(id);
        }
        Ok(())
    }

    pub(super) fn reset_by_writer(&mut self, id: u64, code: u32) -> Result<(), ClosedStream> {
        let stream = self.streams.get_mut(&id).ok_or(ClosedStream)?;
        if stream.sending.stopped.take().is_some() {
            self.settle(id);
            return Ok(());
        }
        match stream.sending.phase {
            SendPhase::Open | SendPhase::Finishing if self.closed.is_none() => {
                self.reset(id, code.into());
                Ok(())
            }
            _ => Err(ClosedStream),
        }
    }

    pub(super) fn set_priority(&mut self, id: u64, priority: i32) -> Result<(), ClosedStream> {
        let stream = self.streams.get_mut(&id).ok_or(ClosedStream)?;
        let sending = &mut stream.sending;
        if sending.phase == SendPhase::Ended {
            return Err(ClosedStream);
        }
        if let Some(turn) = sending.turn.take() {
            self.ready.remove(&(Reverse(sending.priority), turn));
        }
        sending.priority = priority;
        if self.closed.is_none() {
            self.line_up(id);
        }
        Ok(())
    }

    /// The peer has stopped it, or all of it was sent: on one ordered way nothing overtakes it.
    pub(super) fn stopped(
        &mut self,
        id: u64,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<u64>, WriteError>> {
        let Some(stream) = self.streams.get_mut(&id) else { return Poll::Ready(Ok(None)) };
        let sending = &mut stream.sending;
        if let Some(code) = sending.stopped {
            return Poll::Ready(Ok(Some(code)));
        }
        if sending.phase == SendPhase::Ended {
            return Poll::Ready(Ok(None));
        }
        if let Some(why) = &self.closed {
            return Poll::Ready(Err(why.clone().into()));
        }
        sending.watcher = Some(cx.waker().clone());
        Poll::Pending
    }

    pub(super) fn drop_writer(&mut self, id: u64) {
        // An error means that the direction has ended already.
        self.finish(id).ok();
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.sending.is_held = false;
            stream.sending.stopped = None;
            self.settle(id);
        }
    }

    pub(super) fn read(
        &mut self,
        id: u64,
        max: usize,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Chunk>, ReadError>> {
        let Some(stream) = self.streams.get_mut(&id) else {
            return Poll::Ready(Err(ReadError::ClosedStream));
        };
        let receiving = &mut stream.receiving;
        if !receiving.data.is_empty() && max > 0 {
            let taken = if receiving.data.len() <= max {
                std::mem::take(&mut receiving.data)
            } else {
                receiving.data.split_to(max)
            };
            let offset = receiving.consumed;
            receiving.consumed += taken.len() as u64;
            let window = self.settings.stream_receive_window;
            if !receiving.is_credit_due && receiving.new_credit(window).is_some() {
                receiving.is_credit_due = true;
                self.controls.push_back(Control::Credit(id));
                self.wake_driver();
            }
            self.consume(taken.len() as u64);
            return Poll::Ready(Ok(Some(Chunk { offset, bytes: taken.freeze() })));
        }
        match receiving.phase {
            ReceivePhase::Finished => {
                receiving.phase = ReceivePhase::Ended;
                self.settle(id);
                Poll::Ready(Ok(None))
            }
            ReceivePhase::Reset(code) => {
                receiving.phase = ReceivePhase::Ended;
                self.settle(id);
                Poll::Ready(Err(ReadError::Reset(code)))
            }
            ReceivePhase::Stopped | ReceivePhase::Ended => {
                Poll::Ready(Err(ReadError::ClosedStream))
            }
            ReceivePhase::Open => match &self.closed {
                Some(why) => Poll::Ready(Err(why.clone().into())),
                None => {
                    receiving.reader = Some(cx.waker().clone());
                    Poll::Pending
                }
            },
        }
    }

    pub(super) fn stop(&mut self, id: u64, code: u32) -> Result<(), ClosedStream> {
        let stream = self.streams.get_mut(&id).ok_or(ClosedStream)?;
        let receiving = &mut stream.receiving;
        let phase = match receiving.phase {
            ReceivePhase::Open => ReceivePhase::Stopped,
            ReceivePhase::Finished | ReceivePhase::Reset(_) => ReceivePhase::Ended,
            ReceivePhase::Stopped | ReceivePhase::Ended => return Err(ClosedStream),
        };
        receiving.phase = phase;
        let unread = std::mem::replace(&mut receiving.data, BytesMut::new()).len() as u64;
        receiving.consumed += unread;
        self.consume(unread);
        if phase == ReceivePhase::Stopped && self.closed.is_none() {
            self.controls.push_back(Control::Stop(id, code.into()));
            self.wake_driver();
        }
        self.settle(id);
        Ok(())
    }

    pub(super) fn drop_reader(&mut self, id: u64) {
        // An error means that the direction has ended already.
        self.stop(id, 0).ok();
    }
}
