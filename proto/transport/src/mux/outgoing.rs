//! What leaves for the peer: one record at a time, so that what is more urgent overtakes whatever
//! has not been written yet.

use std::cmp::Reverse;

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use super::state::{Control, State};
use super::stream::{CHUNK_OVERHEAD, SendPhase};
use super::wire::{self, CONTROL_BYTES_MAX, DATAGRAM_HEADER_BYTES, STREAM_HEADER_BYTES};

/// Bytes of a record, about: what stands at the most before a message of another stream that comes
/// just now.
pub(super) const RECORD_BYTES: usize = 4 * 1024;
/// What one stream sends in its turn.
const TURN_BYTES: usize = 2 * 1024;

impl State {
    /// Appends the next record; `false`: there is nothing to say.
    pub(super) fn say(&mut self, out: &mut BytesMut, now: Instant) -> bool {
        let mut frames = BytesMut::new();
        if !self.is_introduced {
            self.is_introduced = true;
            wire::put_parameters(&mut frames, &self.parameters());
        }
        if self.closed.is_some() {
            if let Some(close) = self.close.take() {
                wire::put_close(&mut frames, close.by_application, close.code, &close.reason);
            }
        } else {
            self.say_controls(&mut frames, now);
            self.say_datagrams(&mut frames);
            self.say_data(&mut frames, now);
        }
        if frames.is_empty() {
            return false;
        }
        self.stats.sent_bytes += frames.len() as u64;
        wire::put_record(out, &frames);
        true
    }

    fn say_controls(&mut self, frames: &mut BytesMut, now: Instant) {
        if let Some(number) = self.pings.answer.take() {
            wire::put_pong(frames, number);
        }
        if self.pings.is_due && self.peer.is_some() {
            self.pings.is_due = false;
            self.pings.number += 1;
            self.pings.asked = Some(now);
            wire::put_ping(frames, self.pings.number);
        }
        if self.is_credit_due() {
            self.told = self.consumed + self.settings.receive_window;
            wire::put_max_data(frames, self.told);
        }
        if self.are_streams_due() {
            self.accepted_told = self.accepted_over + u64::from(self.settings.streams_max);
            wire::put_max_streams(frames, self.accepted_told);
        }
        while frames.len() + CONTROL_BYTES_MAX <= RECORD_BYTES
            && let Some(control) = self.controls.pop_front()
        {
            self.say_control(frames, control);
        }
    }

    fn say_control(&mut self, frames: &mut BytesMut, control: Control) {
        match control {
            Control::Stop(id, code) => wire::put_stop(frames, id, code),
            Control::Reset(id) => {
                let Some(stream) = self.streams.get_mut(&id) else { return };
                let SendPhase::Resetting(code) = stream.sending.phase else { return };
                wire::put_reset(frames, id, code, stream.sending.sent);
                stream.sending.phase = SendPhase::Ended;
                stream.sending.wake();
                self.settle(id);
            }
            Control::Credit(id) => {
                let Some(stream) = self.streams.get_mut(&id) else { return };
                stream.receiving.is_credit_due = false;
                let window = self.settings.stream_receive_window;
                if let Some(credit) = stream.receiving.new_credit(window) {
                    stream.receiving.told = credit;
                    wire::put_max_stream_data(frames, id, credit);
                }
            }
        }
    }

    fn say_datagrams(&mut self, frames: &mut BytesMut) {
        while let Some(bytes) = self.datagrams_out.next_len()
            && frames.len() + DATAGRAM_HEADER_BYTES + bytes <= RECORD_BYTES
        {
            if let Some(datagram) = self.datagrams_out.pop() {
                wire::put_datagram(frames, &datagram);
            }
        }
    }

    fn say_data(&mut self, frames: &mut BytesMut, now: Instant) {
        while frames.len() + STREAM_HEADER_BYTES < RECORD_BYTES {
            let room = (RECORD_BYTES - STREAM_HEADER_BYTES - frames.len()).min(TURN_BYTES);
            let credit = self.credit - self.sent;
            // The first in line that needs no credit, or has some.
            let next = self.ready.values().copied().find(|id| {
                credit > 0 || self.streams.get(id).is_some_and(|s| s.sending.waiting == 0)
            });
            let Some(id) = next else { return };
            self.say_stream(frames, id, (room as u64).min(credit));
            self.unanswered_since.get_or_insert(now);
        }
    }

    /// A turn of one stream: up to `bytes_max`, then it stands last among its equals.
    fn say_stream(&mut self, frames: &mut BytesMut, id: u64, bytes_max: u64) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let sending = &mut stream.sending;
        if let Some(turn) = sending.turn.take() {
            self.ready.remove(&(Reverse(sending.priority), turn));
        }
        let bytes = sending.waiting.min(bytes_max).min(sending.credit - sending.sent);
        let fin = sending.phase == SendPhase::Finishing && bytes == sending.waiting;
        let mut left = usize::try_from(bytes).unwrap_or(usize::MAX);
        wire::put_stream_header(frames, id, sending.sent, left, fin);
        while left > 0
            && let Some(chunk) = sending.chunks.front_mut()
        {
            let part = chunk.split_to(left.min(chunk.len()));
            frames.extend_from_slice(&part);
            left -= part.len();
            let mut freed = part.len();
            if chunk.is_empty() {
                freed += CHUNK_OVERHEAD;
                sending.chunks.pop_front();
            }
            sending.room -= freed;
            self.room -= freed;
        }
        sending.sent += bytes;
        sending.waiting -= bytes;
        self.sent += bytes;
        if fin {
            sending.phase = SendPhase::Ended;
            sending.wake();
        }
        self.line_up(id);
        self.settle(id);
        self.wake_writers();
    }

    /// There is room again: whoever waited for some looks again.
    fn wake_writers(&mut self) {
        if self.room >= self.settings.send_buffer {
            return;
        }
        for stream in self.streams.values_mut() {
            if let Some(writer) = stream.sending.writer.take() {
                writer.wake();
            }
        }
    }

    /// Room that a chunk takes while it waits.
    pub(super) fn room_of(chunk: &Bytes) -> usize {
        chunk.len() + CHUNK_OVERHEAD
    }
}
