//! A member of a group: a bare stream on its user's connection, one task that reads it and one
//! that writes what the member says.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use bytes::Bytes;
use parking_lot::Mutex;
use petrel_proto::code::Code;
use petrel_proto::frame::{self, FrameReader};
use petrel_proto::wire::{self, Frame, frame::What};
use quinn::{Connection, RecvStream, SendStream};
use tokio::sync::mpsc;

use super::judge::{Chunk, Judge, Watch};
use super::scan::{Scanned, scan, what};
use crate::dial;
use crate::ledger::{Clock, Id};
use crate::relay::server::Fault;

/// Messages that wait for one member's stream, at the most.
const QUEUE: usize = 4_096;
/// When a refused message is sent again, unless the server says.
const AGAIN_AFTER: Duration = Duration::from_millis(100);
/// `entry_kind` of text.
const KIND_TEXT: u32 = 1;

/// What a member is to say.
#[derive(Clone, Copy, Debug)]
pub enum Job {
    /// A new message.
    Say(u32),
    /// All from this number on once more, after so long.
    Again(u64, Duration),
}

/// What all seats of a run share.
#[derive(Debug)]
pub struct Room {
    /// The judge.
    pub judge: Judge,
    /// The run's clock.
    pub clock: Clock,
    /// Seats whose stream is attached.
    pub attached: AtomicUsize,
    /// Set before the connections are closed.
    pub closing: AtomicBool,
    /// What goes wrong on purpose on the way to one member, to show that it is noticed.
    pub fault: Option<Fault>,
}

/// The seat that faults are on the way to: not the owner, and seldom the sender.
const FAULTY_SEAT: u32 = 1;
/// Every so many places meet the fault.
const FAULT_EVERY: u64 = 20;

/// A member of a group, on its own stream.
#[derive(Debug)]
pub struct Seat {
    /// What it has seen.
    pub watch: Arc<Mutex<Watch>>,
    /// What it is to say.
    pub jobs: mpsc::Sender<Job>,
}

impl Seat {
    /// Attaches the group's stream on a signed-in connection.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn take(
        room: &Arc<Room>,
        number: u32,
        connection: &Connection,
        group: Id,
    ) -> anyhow::Result<Self> {
        let opened = tokio::time::timeout(dial::TIMEOUT, connection.open_bi());
        let (mut send, recv) = opened.await.context("no stream in time")??;
        let attach =
            wire::Attach { conversation: Bytes::copy_from_slice(&group), ..Default::default() };
        send.write_all(&frame::encode(&frame::bare(What::Attach(attach)))).await?;
        let watch = Arc::new(Mutex::new(Watch::new(number)));
        let (jobs, taken) = mpsc::channel(QUEUE);
        let listener =
            Listener { room: Arc::clone(room), watch: Arc::clone(&watch), jobs: jobs.clone() };
        tokio::spawn(listener.listen(recv));
        let speaker = Speaker { room: Arc::clone(room), watch: Arc::clone(&watch), send };
        tokio::spawn(speaker.speak(taken));
        Ok(Self { watch, jobs })
    }
}

struct Listener {
    room: Arc<Room>,
    watch: Arc<Mutex<Watch>>,
    jobs: mpsc::Sender<Job>,
}

impl Listener {
    async fn listen(self, mut recv: RecvStream) {
        let mut frames = FrameReader::new(dial::FRAME_BYTES_MAX);
        let mut chunk = Chunk::default();
        while let Ok(Some(read)) = recv.read_chunk(usize::MAX, true).await {
            let (now, mut bytes) = (self.room.clock.now(), read.bytes);
            {
                let mut watch = self.watch.lock();
                while let Ok(Some(payload)) = frames.next(&mut bytes) {
                    self.hear(&mut watch, payload, now, &mut chunk);
                }
            }
            self.room.judge.enter(&mut chunk);
        }
        if !self.room.closing.load(Ordering::Relaxed) {
            self.room.judge.error("stream_ended");
        }
    }

    fn hear(&self, watch: &mut Watch, payload: Bytes, now: u64, chunk: &mut Chunk) {
        let judge = &self.room.judge;
        match scan(&payload) {
            Some(frame) if matches!(frame.what, what::PUSH | what::ACK) => {
                match self.room.fault.filter(|_| is_faulty(watch.seat, &frame)) {
                    None | Some(Fault::Delay | Fault::Swap) => {}
                    Some(Fault::Drop) => return,
                    Some(Fault::Double) => judge.hear(watch, &frame, now, chunk),
                    Some(Fault::Alter) => {
                        let altered = Scanned { body: &[], ..frame };
                        return judge.hear(watch, &altered, now, chunk);
                    }
                }
                judge.hear(watch, &frame, now, chunk);
            }
            Some(frame) if matches!(frame.what, what::PREVIEW | what::RECEIPTS) => {}
            Some(_) => self.hear_rare(watch, payload),
            None => judge.error("no_frame"),
        }
    }

    fn hear_rare(&self, watch: &mut Watch, payload: Bytes) {
        let judge = &self.room.judge;
        match frame::decode(payload) {
            Ok((_, What::Attach(attach))) => {
                watch.starts_after(attach.cursor.map_or(0, |cursor| cursor.seq));
                self.room.attached.fetch_add(1, Ordering::AcqRel);
            }
            // What was said before he came.
            Ok((_, What::Gap(gap))) if gap.reason == NOT_A_MEMBER => watch.starts_after(gap.to),
            Ok((_, What::Gap(_))) => judge.error("gap"),
            Ok((frame, What::Refusal(refusal))) => self.refused(watch, frame.number, &refusal),
            Ok((_, other)) => judge.error(&format!("unexpected_{}", name(&other))),
            Err(_) => judge.error("no_frame"),
        }
    }

    fn refused(&self, watch: &Watch, number: u64, refusal: &wire::Refusal) {
        let judge = &self.room.judge;
        let code = Code::from_number(refusal.code.into()).unwrap_or(Code::Internal);
        // It says only that an earlier one comes first.
        if code == Code::Predecessor {
            return;
        }
        judge.error(code.label());
        let Some(message) = watch.message(number) else { return };
        if !code.is_retryable() {
            return judge.give_up(message);
        }
        let after = match refusal.retry_after_ms {
            0 => AGAIN_AFTER,
            ms => Duration::from_millis(ms.into()),
        };
        if self.jobs.try_send(Job::Again(number, after)).is_err() {
            judge.error("queue_full");
        }
    }
}

fn is_faulty(seat: u32, frame: &Scanned<'_>) -> bool {
    seat == FAULTY_SEAT && frame.what == what::PUSH && frame.seq.is_multiple_of(FAULT_EVERY)
}

const NOT_A_MEMBER: i32 = wire::GapReason::NotAMember as i32;

fn name(what: &What) -> &'static str {
    match what {
        What::Superseded(_) => "superseded",
        What::Reset(_) => "reset",
        _ => "frame",
    }
}

struct Speaker {
    room: Arc<Room>,
    watch: Arc<Mutex<Watch>>,
    send: SendStream,
}

impl Speaker {
    async fn speak(mut self, mut jobs: mpsc::Receiver<Job>) {
        while let Some(job) = jobs.recv().await {
            let written = match job {
                Job::Say(message) => {
                    let number = self.watch.lock().sends(message);
                    self.write(message, number, false).await
                }
                Job::Again(from, after) => {
                    tokio::time::sleep(after).await;
                    self.write_again(from).await
                }
            };
            // What was not written stays without an answer, and is judged so.
            if written.is_err() {
                return;
            }
        }
    }

    async fn write_again(&mut self, from: u64) -> Result<(), quinn::WriteError> {
        let to = self.watch.lock().sent();
        for number in from..=to {
            let message = self.watch.lock().message(number);
            if let Some(message) = message {
                self.write(message, number, true).await?;
            }
        }
        Ok(())
    }

    async fn write(
        &mut self,
        message: u32,
        number: u64,
        again: bool,
    ) -> Result<(), quinn::WriteError> {
        let judge = &self.room.judge;
        let text = judge.texts.of(message);
        let id = judge.numbering.id(message, judge.made_ms(message, unix_ms()));
        let frame = Frame {
            number,
            id: Bytes::copy_from_slice(&id),
            entry_kind: KIND_TEXT,
            encoding: text.encoding,
            body: text.bytes.clone(),
            what: Some(What::Send(wire::Send { again, ..wire::Send::default() })),
            ..Frame::default()
        };
        self.send.write_chunk(frame::encode(&frame)).await
    }
}

fn unix_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or_default()
}
