//! One conversation as the client knows it: what was handed out, what waits
//! for an answer, and the stream that is open for it. No IO, no clock.

use std::sync::Arc;
use std::time::{Duration, Instant};

use petrel_proto::code::{Action, Code};
use tokio::sync::{Notify, oneshot};

use crate::backoff::jittered;
use crate::body;
use crate::cursor::{Cursor, CursorTrail};
use crate::error::SendOutcomeError;
use crate::event::{Acked, Entry, Event, GapReason, Preview, Refused};
use crate::id::{ConversationId, MessageId, UserId};
use crate::incoming::{Attach, Incoming, Refusal};
use crate::outbox::{Outbox, Pause, Queued};
use crate::timeline::{Offered, Out, Timeline};

/// Who waits for a message's place.
pub(crate) type Waiter = oneshot::Sender<Result<Acked, SendOutcomeError>>;

/// How long a hole may stay that the stream should close by itself.
const HOLE_PATIENCE: Duration = Duration::from_secs(2);
/// How long to wait before going on after a refusal whose cause is not known.
const FOLLOWER_PAUSE: Duration = Duration::from_millis(50);
/// A wait never grows beyond this, unless the server says so.
const WAIT_MAX: Duration = Duration::from_secs(15);

/// The stream that this conversation's sends go to.
#[derive(Debug)]
pub(crate) struct Stream {
    /// Unique in this client; rises.
    pub(crate) generation: u64,
    /// Told when there is something to write.
    pub(crate) writer: Arc<Notify>,
    /// Our Attach is still to be written.
    pub(crate) attach_due: bool,
    /// The server has attached, or has opened the stream itself.
    pub(crate) attached: bool,
    /// Something was answered here.
    pub(crate) progress: bool,
}

/// What the client's side of a rule needs to know.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context {
    pub(crate) me: UserId,
    pub(crate) now: Instant,
    /// Even in 0..1.
    pub(crate) random: f64,
    pub(crate) fill_max: u64,
}

/// What is to be done after a rule has spoken.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    pub(crate) events: Vec<Event>,
    /// Messages that left the outbox, and their bytes.
    pub(crate) removed: Vec<(MessageId, usize)>,
    /// A new token is needed.
    pub(crate) refresh: bool,
    /// Read these from history.
    pub(crate) fill: Option<(u64, u64)>,
    /// Look at this conversation again then.
    pub(crate) wake: Option<Instant>,
    pub(crate) duplicates: u64,
}

impl Effects {
    pub(crate) fn wake_at(&mut self, at: Instant) {
        self.wake = Some(self.wake.map_or(at, |earlier| earlier.min(at)));
    }
}

#[derive(Debug)]
pub(crate) struct Conversation {
    pub(crate) id: ConversationId,
    pub(crate) peer: Option<UserId>,
    pub(crate) timeline: Timeline<Entry>,
    pub(crate) outbox: Outbox<Waiter>,
    pub(crate) stream: Option<Stream>,
    /// The application wants it live.
    pub(crate) live: bool,
    /// The server finished the idle stream; whoever has something to say opens the next.
    dormant: bool,
    /// An Attach of ours is needed, whoever has something to say.
    attach_wanted: bool,
    /// The stream is finished once everything is said.
    closing: bool,
    /// The next planned look at this conversation.
    pub(crate) planned: Option<Instant>,
    /// No stream is opened before.
    pub(crate) reopen_at: Option<Instant>,
    pub(crate) receipts: crate::receipt::OwnReceipts,
    /// The newest entry that the application has dealt with.
    pub(crate) handled: Option<Cursor>,
    /// When something was last written or read here.
    pub(crate) used: Instant,
    filling: bool,
    hole_since: Option<Instant>,
    refusals: u32,
    /// Streams older than this speak of a history that is gone.
    reset_generation: u64,
}

impl Conversation {
    pub(crate) fn new(id: ConversationId, trail: CursorTrail, now: Instant) -> Self {
        Self {
            id,
            peer: None,
            handled: trail.newest(),
            timeline: Timeline::new(trail),
            outbox: Outbox::default(),
            stream: None,
            live: false,
            dormant: false,
            attach_wanted: false,
            closing: false,
            planned: None,
            reopen_at: None,
            receipts: crate::receipt::OwnReceipts::default(),
            used: now,
            filling: false,
            hole_since: None,
            refusals: 0,
            reset_generation: 0,
        }
    }

    pub(crate) fn is_current(&self, generation: u64) -> bool {
        self.stream.as_ref().is_some_and(|stream| stream.generation == generation)
    }

    /// Whether a stream should be opened now.
    pub(crate) fn wants_stream(&self, now: Instant, durable_upto: u64) -> bool {
        self.stream.is_none()
            && !self.closing
            && self.reopen_at.is_none_or(|at| at <= now)
            && ((self.live && !self.dormant)
                || self.attach_wanted
                || self.receipts.read_due()
                || self.outbox.is_ready(now, durable_upto))
    }

    /// Applies what came on the stream `generation`.
    pub(crate) fn apply(
        &mut self,
        generation: u64,
        incoming: Incoming,
        cx: &Context,
        fx: &mut Effects,
    ) {
        let current = self.is_current(generation);
        if generation < self.reset_generation {
            return;
        }
        match incoming {
            Incoming::Entry(entry) => self.take_push(entry, current, cx, fx),
            Incoming::Ack { number, id, seq, time_ms, count } => {
                let found = match id {
                    Some(id) => self.outbox.remove(id),
                    None if current => self.outbox.remove_numbered(number),
                    None => None,
                };
                if let Some(message) = found {
                    self.take_ack(message, seq, time_ms, count, cx, fx);
                }
            }
            Incoming::Refusal { number, refusal } if current => {
                if number == 0 {
                    self.take_stream_refusal(refusal, cx, fx);
                } else {
                    self.take_refusal(number, refusal, cx, fx);
                }
            }
            // What it refuses goes again on the newer stream.
            Incoming::Refusal { .. } => {}
            Incoming::Preview(preview) => self.take_preview(preview, fx),
            Incoming::Receipts(members) => {
                fx.events.push(Event::Receipts { conversation: self.id, members })
            }
            Incoming::Attach(attach) => self.take_attach(attach, current, fx),
            Incoming::Gap { from, to, reason } => self.take_gap(from, to, reason, cx, fx),
            Incoming::Reset { to } => self.take_reset(generation, to, fx),
            Incoming::Superseded => {
                if current {
                    self.stream_gone();
                }
            }
        }
    }

    fn take_push(&mut self, entry: Entry, current: bool, cx: &Context, fx: &mut Effects) {
        self.fill_entry(entry, cx, fx);
        self.look_for_hole(current, cx, fx);
    }

    fn take_ack(
        &mut self,
        message: Queued<Waiter>,
        seq: u64,
        time_ms: u64,
        count: u64,
        cx: &Context,
        fx: &mut Effects,
    ) {
        let entry = Entry {
            conversation: self.id,
            seq,
            id: message.id,
            sender: cx.me,
            time_ms,
            count,
            kind: message.kind,
            body: body::decode(message.encoding, &message.body),
        };
        self.answered(&entry, message, fx);
        self.take_entry(entry, fx);
        self.look_for_hole(false, cx, fx);
    }

    fn answered(&mut self, entry: &Entry, message: Queued<Waiter>, fx: &mut Effects) {
        let acked =
            Acked { conversation: self.id, id: message.id, seq: entry.seq, time_ms: entry.time_ms };
        self.refusals = 0;
        self.progress();
        fx.removed.push((message.id, message.body.len()));
        fx.events.push(Event::Acked(acked));
        if let Some(waiter) = message.waiter {
            // Nobody waiting any more is fine.
            drop(waiter.send(Ok(acked)));
        }
    }

    fn progress(&mut self) {
        if let Some(stream) = &mut self.stream {
            stream.progress = true;
        }
    }

    fn take_entry(&mut self, entry: Entry, fx: &mut Effects) {
        let at = Cursor { seq: entry.seq, tail: entry.id.tail() };
        let bytes = entry.body.as_ref().map_or(0, bytes::Bytes::len);
        let mut out = Vec::new();
        match self.timeline.offer(at, bytes, entry, &mut out) {
            Ok(Offered::Duplicate) => fx.duplicates += 1,
            Ok(Offered::Next | Offered::Held) => {}
            Err(entry) => {
                // Too much waits for what is missing: say so and go on.
                self.give_up_hole(&mut out);
                if self.timeline.offer(at, bytes, entry, &mut out).is_err() {
                    self.timeline.clear_held();
                }
            }
        }
        self.hand_out(out, fx);
    }

    fn take_gap(&mut self, from: u64, to: u64, reason: GapReason, cx: &Context, fx: &mut Effects) {
        let first = from.max(self.timeline.position() + 1);
        let missing = (to + 1).saturating_sub(first);
        if reason == GapReason::Skipped && missing <= cx.fill_max {
            if missing > 0 && first == self.timeline.position() + 1 && !self.filling {
                self.filling = true;
                fx.fill = Some((first, to));
            }
            return;
        }
        let mut out = Vec::new();
        self.timeline.gap(from, to, reason, &mut out);
        self.hand_out(out, fx);
    }

    /// What a page of history says about a gap of ours.
    pub(crate) fn fill_gap(&mut self, from: u64, to: u64, reason: GapReason, fx: &mut Effects) {
        let mut out = Vec::new();
        self.timeline.gap(from, to, reason, &mut out);
        self.hand_out(out, fx);
    }

    /// An entry from a page of history.
    pub(crate) fn fill_entry(&mut self, entry: Entry, cx: &Context, fx: &mut Effects) {
        if entry.sender == cx.me
            && let Some(message) = self.outbox.remove(entry.id)
        {
            self.answered(&entry, message, fx);
        }
        self.take_entry(entry, fx);
    }

    /// Reading a gap has ended; what is still missing up to `to` is told as a gap.
    pub(crate) fn fill_ended(&mut self, to: u64, cx: &Context, fx: &mut Effects) {
        if !self.filling {
            return;
        }
        self.filling = false;
        self.hole_since = None;
        let next = self.timeline.position() + 1;
        self.fill_gap(next, to, GapReason::Skipped, fx);
        self.look_for_hole(true, cx, fx);
    }

    pub(crate) fn is_filling(&self) -> bool {
        self.filling
    }

    fn look_for_hole(&mut self, at_once: bool, cx: &Context, fx: &mut Effects) {
        let Some((from, to)) = self.timeline.hole() else {
            self.hole_since = None;
            return;
        };
        if self.filling {
            return;
        }
        let since = *self.hole_since.get_or_insert(cx.now);
        if !at_once && cx.now < since + HOLE_PATIENCE {
            fx.wake_at(since + HOLE_PATIENCE);
            return;
        }
        if to - from < cx.fill_max {
            self.filling = true;
            fx.fill = Some((from, to));
        } else {
            let mut out = Vec::new();
            self.give_up_hole(&mut out);
            self.hand_out(out, fx);
        }
    }

    fn give_up_hole(&mut self, out: &mut Vec<Out<Entry>>) {
        if let Some((from, to)) = self.timeline.hole() {
            self.filling = false;
            self.hole_since = None;
            self.timeline.gap(from, to, GapReason::Skipped, out);
        }
    }

    fn hand_out(&mut self, out: Vec<Out<Entry>>, fx: &mut Effects) {
        for out in out {
            fx.events.push(match out {
                Out::Entry(entry) => Event::Entry(entry),
                Out::Gap { from, to, reason } => {
                    Event::Gap { conversation: self.id, from, to, reason }
                }
            });
        }
    }

    fn take_preview(&mut self, preview: Preview, fx: &mut Effects) {
        if !self.timeline.knows(preview.id.tail()) {
            fx.events.push(Event::Preview(preview));
        }
    }

    fn take_attach(&mut self, attach: Attach, current: bool, fx: &mut Effects) {
        if attach.peer.is_some() {
            self.peer = attach.peer;
        }
        if current && let Some(stream) = &mut self.stream {
            stream.attached = true;
            stream.progress = true;
            self.reopen_at = None;
            fx.events.push(Event::Attached {
                conversation: self.id,
                head: attach.head,
                count: attach.count,
                peer: self.peer,
            });
        }
        if !attach.receipts.is_empty() {
            fx.events.push(Event::Receipts { conversation: self.id, members: attach.receipts });
        }
    }

    fn take_reset(&mut self, generation: u64, to: u64, fx: &mut Effects) {
        self.filling = false;
        self.hole_since = None;
        self.reset_generation = generation;
        self.receipts.clamp(to);
        self.timeline.reset(to);
        self.handled = self.timeline.trail().newest();
        fx.events.push(Event::Reset { conversation: self.id, to });
    }

    fn take_refusal(&mut self, number: u64, refusal: Refusal, cx: &Context, fx: &mut Effects) {
        self.progress();
        if refusal.code == Code::Predecessor {
            let until = cx.now + jittered(FOLLOWER_PAUSE, cx.random);
            if self.outbox.refuse_as_follower(number, Pause::Until(until)) {
                fx.wake_at(until);
            }
            return;
        }
        match refusal.code.action() {
            Action::GiveUp => {
                if let Some(message) = self.outbox.remove_numbered(number) {
                    self.refuse(message, &refusal, fx);
                }
            }
            Action::Reauthenticate => {
                self.outbox.refuse_for_now(number, Pause::Token);
                fx.refresh = true;
            }
            Action::Retry { .. } | Action::Reconnect { .. } => {
                let until = cx.now + self.wait(&refusal, cx);
                self.outbox.refuse_for_now(number, Pause::Until(until));
                fx.wake_at(until);
            }
        }
    }

    /// The stream itself is refused: its Attach, or something that is no Send.
    fn take_stream_refusal(&mut self, refusal: Refusal, cx: &Context, fx: &mut Effects) {
        let attached = self.stream.as_ref().is_some_and(|stream| stream.attached);
        match refusal.code.action() {
            Action::Reauthenticate => {
                self.outbox.set_pause(Pause::Token);
                self.reopen_at = Some(cx.now + WAIT_MAX);
                fx.refresh = true;
            }
            Action::GiveUp if !attached => {
                self.live = false;
                self.receipts.forget();
                let waiting: Vec<_> = self.outbox.drain().collect();
                for message in waiting {
                    self.refuse(message, &refusal, fx);
                }
                fx.events.push(Event::AttachRefused {
                    conversation: self.id,
                    code: refusal.code,
                    text: refusal.text,
                });
            }
            _ => self.reopen_at = Some(cx.now + self.wait(&refusal, cx)),
        }
        if let Some(at) = self.reopen_at {
            fx.wake_at(at);
        }
        self.stream_gone();
    }

    fn refuse(&mut self, message: Queued<Waiter>, refusal: &Refusal, fx: &mut Effects) {
        let refused = Refused {
            conversation: self.id,
            id: message.id,
            code: refusal.code,
            text: refusal.text.clone(),
            server_time_ms: refusal.server_time_ms,
        };
        fx.removed.push((message.id, message.body.len()));
        fx.events.push(Event::Refused(refused.clone()));
        if let Some(waiter) = message.waiter {
            drop(waiter.send(Err(SendOutcomeError::Refused(refused))));
        }
    }

    /// The server's time to wait, or the code's, which doubles while nothing gets through.
    fn wait(&mut self, refusal: &Refusal, cx: &Context) -> Duration {
        let doublings = self.refusals.min(5);
        self.refusals += 1;
        if refusal.retry_after_ms > 0 {
            let said = Duration::from_millis(refusal.retry_after_ms.into());
            return said.mul_f64(1.0 + cx.random / 2.0);
        }
        let after_ms = match refusal.code.action() {
            Action::Retry { after_ms } | Action::Reconnect { after_ms } => after_ms,
            Action::Reauthenticate | Action::GiveUp => 1_000,
        };
        let wait = Duration::from_millis(u64::from(after_ms) << doublings);
        jittered(wait.min(WAIT_MAX), cx.random)
    }

    /// Starts again after this cursor, as the application wishes.
    pub(crate) fn restart(&mut self, from: Cursor) {
        self.timeline.restart(Some(from));
        self.handled = Some(from);
        self.filling = false;
        self.hole_since = None;
        self.stream_gone();
    }

    /// The application wants it live from here on.
    pub(crate) fn show(&mut self) {
        self.live = true;
        self.dormant = false;
        self.reopen_at = None;
    }

    /// Our Attach is to take over from a stream of the server that starts too late for us.
    pub(crate) fn attach_anew(&mut self) {
        self.attach_wanted = true;
    }

    /// Whether our Attach is still to be written; it is, from here on.
    pub(crate) fn take_attach_due(&mut self) -> bool {
        self.attach_wanted = false;
        self.stream.as_mut().is_some_and(|stream| std::mem::take(&mut stream.attach_due))
    }

    /// Finishes our side of an idle stream; the server opens the next when there is news.
    pub(crate) fn leave_stream(&mut self) {
        self.dormant = true;
        self.stream_gone();
    }

    /// The client is closed: what is due is written at once, then the stream is finished.
    pub(crate) fn say_last_words(&mut self) {
        self.closing = true;
        self.receipts.hurry();
        if let Some(stream) = &self.stream {
            stream.writer.notify_one();
        }
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing
    }

    /// The application has dealt with this entry. Says whether that is news.
    pub(crate) fn handle(&mut self, at: Cursor) -> bool {
        let news = at.seq <= self.timeline.position()
            && self.handled.is_none_or(|handled| handled.seq < at.seq);
        if news {
            self.handled = Some(at);
        }
        news
    }

    /// The cursors of what the application has dealt with.
    pub(crate) fn handled_trail(&self) -> CursorTrail {
        let mut trail = self.timeline.trail().clone();
        trail.drop_above(self.handled.map_or(0, |handled| handled.seq));
        if let Some(handled) = self.handled {
            trail.advance(handled);
        }
        trail
    }

    /// There is a new token.
    pub(crate) fn token_renewed(&mut self) {
        if self.outbox.pause() == Pause::Token {
            self.outbox.set_pause(Pause::None);
            self.reopen_at = None;
        }
        if let Some(stream) = &self.stream {
            stream.writer.notify_one();
        }
    }

    /// The stream that was ours to write on is gone, or is left.
    pub(crate) fn stream_gone(&mut self) {
        if let Some(stream) = self.stream.take() {
            stream.writer.notify_one();
        }
        self.outbox.start_stream();
        self.receipts.unconfirmed();
    }

    /// The current stream has ended, with this code if it was reset.
    pub(crate) fn stream_ended(&mut self, reset: Option<Code>, cx: &Context, fx: &mut Effects) {
        let progress = self.stream.as_ref().is_some_and(|stream| stream.progress);
        self.stream_gone();
        let wait = match reset.map(Code::action) {
            Some(Action::Retry { after_ms } | Action::Reconnect { after_ms }) => {
                Duration::from_millis(after_ms.into())
            }
            Some(Action::Reauthenticate | Action::GiveUp) => Duration::from_secs(1),
            None if progress => Duration::ZERO,
            None => Duration::from_millis(200),
        };
        if wait.is_zero() {
            self.dormant = true;
            self.reopen_at = None;
            return;
        }
        let at = cx.now + jittered(wait, cx.random);
        self.reopen_at = Some(self.reopen_at.map_or(at, |earlier| earlier.max(at)));
        fx.wake_at(at);
    }

    /// The connection is gone: everything on it comes again on the next.
    pub(crate) fn disconnected(&mut self) {
        self.stream_gone();
        self.dormant = false;
        self.reopen_at = None;
        self.filling = false;
        self.hole_since = None;
        self.timeline.clear_held();
        if self.outbox.pause() == Pause::Token {
            self.outbox.set_pause(Pause::None);
        }
    }

    /// A time that was waited for has come.
    pub(crate) fn look_again(&mut self, cx: &Context, fx: &mut Effects) {
        self.look_for_hole(false, cx, fx);
        if let Some(at) = self.receipts.due(cx.now) {
            fx.wake_at(at);
        }
        for at in [self.reopen_at, self.pause_end()].into_iter().flatten() {
            if at > cx.now {
                fx.wake_at(at);
            }
        }
    }

    fn pause_end(&self) -> Option<Instant> {
        match self.outbox.pause() {
            Pause::Until(at) => Some(at),
            Pause::None | Pause::Token => None,
        }
    }
}
