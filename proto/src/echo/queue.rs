//! What is to be sent once more, and when.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message as _;

use super::{ACK_DELAY_MAX, COPY_BYTES_MAX, Flights};
use crate::frame::bare;
use crate::wire::{self, frame::What};

/// When each copy goes, after its original. Not at once: what is queued together shares a packet.
const AFTER: [Duration; 2] = [Duration::from_millis(4), Duration::from_millis(16)];
/// How long the original's packet is waited for if QUIC keeps it back, each time.
const NOT_LEFT: Duration = Duration::from_millis(4);
/// ... and all together: what is kept back for longer is not in a hurry.
const NOT_LEFT_MAX: Duration = Duration::from_millis(500);
/// How much later than a round trip an acknowledgement comes, at the most: the delay that both sides ask
/// of each other, and a little for their timers.
const ACK_DELAY: Duration = ACK_DELAY_MAX.saturating_add(Duration::from_millis(3));
/// On a path that loses nothing silence counts from here, and from so many round trips on: longer
/// than QUIC's own first probe and its answer take.
const SILENCE_MIN: Duration = Duration::from_millis(150);
const SILENCE_ROUND_TRIPS: u32 = 3;
/// Between two rescues: a quarter of the round trip, but not below this.
const RESCUE_INTERVAL_MIN: Duration = Duration::from_millis(12);
/// Rescues of one write, at the most: a longer silence is no burst.
const RESCUES_MAX: u8 = 40;
/// Writes that wait, at the most; further ones are not echoed.
const WAITING_MAX: usize = 256;
/// The same while the path loses nothing and they wait only for a silence that is not to be expected.
const WAITING_QUIET_MAX: usize = 32;
/// Bytes that are copied in one second, at the most.
const BYTES_PER_S_MAX: usize = 64 * 1024;
/// Bytes around one copy's data and around all of them, at the most.
const COPY_OVERHEAD: usize = 28;
/// Bytes of a packet around a write, at the least.
const PACKET_OVERHEAD: usize = 24;

/// The small writes of one connection of which nothing was heard yet.
#[derive(Debug, Default)]
pub struct EchoQueue {
    waiting: VecDeque<Waiting>,
    next_due: Option<Instant>,
    /// The peer is to hear that something was lost.
    notice: bool,
    second: Option<(Instant, usize)>,
}

#[derive(Debug)]
struct Waiting {
    written: Instant,
    stream: u64,
    offset: u64,
    data: Bytes,
    due: Instant,
    /// From when on nothing heard is a silence.
    silent: Instant,
    /// Copies that are wanted, and those that went.
    copies: usize,
    sent: usize,
    rescues: u8,
}

/// What became of a write that was offered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Offered {
    /// It waits.
    Taken,
    /// It is too large, or nothing that is worth a copy.
    Unfit,
    /// Too many wait.
    Full,
    /// Too much was copied in this second.
    Spent,
}

/// What is due.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Due {
    /// To be sent.
    pub datagrams: Vec<Bytes>,
    /// Writes that go a second time, ...
    pub first: u64,
    /// ... a third time, ...
    pub second: u64,
    /// ... and against silence.
    pub rescues: u64,
    /// Datagrams that say only that something was lost.
    pub notices: u64,
    /// Writes that did not go again as too much was copied in this second.
    pub spent: u64,
}

impl EchoQueue {
    /// Takes what was written to a stream at this offset, to be echoed `copies` times. `written`
    /// is when it was handed to QUIC.
    pub fn offer(
        &mut self,
        written: Instant,
        copies: u8,
        rtt: Duration,
        (stream, offset): (u64, u64),
        data: &Bytes,
    ) -> Offered {
        let copies = usize::from(copies).min(AFTER.len());
        if !(1..=COPY_BYTES_MAX).contains(&data.len()) {
            return Offered::Unfit;
        }
        if self.waiting.len() >= if copies > 0 { WAITING_MAX } else { WAITING_QUIET_MAX } {
            return Offered::Full;
        }
        if !self.take_budget(written, copies * data.len()) {
            return Offered::Spent;
        }
        let silence = if copies > 0 {
            rtt + rtt / 8 + ACK_DELAY
        } else {
            SILENCE_MIN.max(rtt * SILENCE_ROUND_TRIPS)
        };
        let silent = written + silence;
        let due = AFTER.iter().take(copies).map(|after| written + *after).next().unwrap_or(silent);
        self.next_due = Some(self.next_due.map_or(due, |next| next.min(due)));
        self.waiting.push_back(Waiting {
            written,
            stream,
            offset,
            data: data.clone(),
            due,
            silent,
            copies,
            sent: 0,
            rescues: 0,
        });
        Offered::Taken
    }

    /// The peer is somewhere else: what has left and was not heard of may have gone to where it was, and
    /// goes again at once.
    pub fn moved(&mut self, now: Instant, flights: &Flights) {
        for write in &mut self.waiting {
            let bytes = write.data.len() + PACKET_OVERHEAD;
            if !flights.is_heard(write.written) && flights.has_left(write.written, bytes) {
                write.sent = write.copies;
                write.due = now;
                self.next_due = Some(now);
            }
        }
    }

    /// The peer is to hear that something was lost: a datagram without copies.
    pub fn notice(&mut self, now: Instant) {
        self.notice = true;
        self.next_due = Some(now);
    }

    /// When something is to be looked at next.
    pub fn next_due(&self) -> Option<Instant> {
        self.next_due
    }

    /// The datagrams that are due, none above `bytes_max`. Copies that are due together share one.
    /// What was heard of is forgotten.
    pub fn take_due(&mut self, now: Instant, flights: &Flights, bytes_max: usize) -> Due {
        let mut due = Due::default();
        if self.next_due.is_none_or(|next| now < next) {
            return due;
        }
        self.waiting.retain(|write| {
            let is_kept_back = write.sent < write.copies && now > write.written + NOT_LEFT_MAX;
            !is_kept_back && !flights.is_heard(write.written)
        });
        let mut packing = Packing { bytes_max, ..Packing::default() };
        self.take_copies(now, flights, &mut packing, &mut due);
        self.take_rescues(now, flights, &mut packing, &mut due);
        due.datagrams = packing.done();
        if std::mem::take(&mut self.notice) && due.datagrams.is_empty() {
            due.datagrams.push(encode(Vec::new()));
            due.notices = 1;
        }
        self.next_due = self.waiting.iter().map(|write| write.due).min();
        if self.waiting.is_empty() {
            // So that an idle connection holds nothing.
            self.waiting = VecDeque::new();
        }
        due
    }

    fn take_copies(
        &mut self,
        now: Instant,
        flights: &Flights,
        packing: &mut Packing,
        due: &mut Due,
    ) {
        for write in &mut self.waiting {
            if write.due > now || write.sent >= write.copies {
                continue;
            }
            if !flights.has_left(write.written, write.data.len() + PACKET_OVERHEAD) {
                // Both would share a packet.
                write.due = now + NOT_LEFT;
                continue;
            }
            write.sent += 1;
            *(if write.sent == 1 { &mut due.first } else { &mut due.second }) += 1;
            let next = AFTER.get(write.sent).filter(|_| write.sent < write.copies);
            write.due = next.map_or(write.silent, |after| write.written + *after).max(now);
            packing.add(write);
        }
    }

    /// Into a silence goes all that waits, as often as one datagram takes it.
    fn take_rescues(
        &mut self,
        now: Instant,
        flights: &Flights,
        packing: &mut Packing,
        due: &mut Due,
    ) {
        let interval = RESCUE_INTERVAL_MIN.max(flights.rtt() / 4);
        let is_due = |write: &Waiting| write.sent >= write.copies && write.due <= now;
        if !self.waiting.iter().any(is_due) {
            return;
        }
        let mut room = packing.bytes_max;
        let mut spent = false;
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.retain_mut(|write| {
            let size = write.data.len() + COPY_OVERHEAD;
            let is_silent = write.sent >= write.copies && write.due <= now + interval / 2;
            if !is_silent || size > room {
                return true;
            }
            if write.rescues >= RESCUES_MAX {
                return false;
            }
            write.due = now + interval;
            if spent || !self.take_budget(now, write.data.len()) {
                spent = true;
                due.spent += 1;
                return true;
            }
            room -= size;
            write.rescues += 1;
            due.rescues += 1;
            packing.add(write);
            true
        });
        // Those for which there was no room have their turn next time.
        for write in waiting.iter_mut().filter(|write| write.due <= now) {
            write.due = now + interval;
        }
        self.waiting = waiting;
    }

    fn take_budget(&mut self, now: Instant, bytes: usize) -> bool {
        let spent = match self.second {
            Some((begun, spent)) if now < begun + Duration::from_secs(1) => spent,
            _ => {
                self.second = Some((now, 0));
                0
            }
        };
        if spent + bytes > BYTES_PER_S_MAX {
            return false;
        }
        if let Some((_, spent)) = &mut self.second {
            *spent += bytes;
        }
        true
    }
}

/// Copies being put into datagrams.
#[derive(Debug, Default)]
struct Packing {
    bytes_max: usize,
    bytes: usize,
    copies: Vec<wire::Copy>,
    datagrams: Vec<Bytes>,
}

impl Packing {
    fn add(&mut self, write: &Waiting) {
        let size = write.data.len() + COPY_OVERHEAD;
        // The path has become narrower since it was taken.
        if size > self.bytes_max {
            return;
        }
        if self.bytes + size > self.bytes_max {
            self.datagrams.push(encode(std::mem::take(&mut self.copies)));
            self.bytes = 0;
        }
        self.bytes += size;
        let Waiting { stream, offset, data, .. } = write;
        self.copies.push(wire::Copy { stream: *stream, offset: *offset, data: data.clone() });
    }

    fn done(mut self) -> Vec<Bytes> {
        if !self.copies.is_empty() {
            self.datagrams.push(encode(self.copies));
        }
        self.datagrams
    }
}

fn encode(copies: Vec<wire::Copy>) -> Bytes {
    bare(What::Echo(wire::Echo { copies })).encode_to_vec().into()
}

#[cfg(test)]
mod tests;
