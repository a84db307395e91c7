//! One conversation as the client knows it: what was handed out, what waits
//! for an answer, and the stream that is open for it. No IO, no clock.

mod answers;
mod entries;

use std::sync::Arc;
use std::time::{Duration, Instant};

use petrel_proto::code::{Action, Code};
use tokio::sync::{Notify, oneshot};

use crate::arrivals::Arrivals;
use crate::backoff::jittered;
use crate::cursor::{Cursor, CursorTrail};
use crate::entry::Entry;
use crate::error::SendOutcomeError;
use crate::event::{Acked, Event};
use crate::id::{ConversationId, MessageId, UserId};
use crate::incoming::{Attach, Incoming, SaidReceipt};
use crate::outbox::{Outbox, Pause};
use crate::receipt::{MemberReceipts, OwnReceipts};

/// A server that ends a session finishes its streams at most this long before the connection.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Who waits for a message's place.
pub(crate) type Waiter = oneshot::Sender<Result<Acked, SendOutcomeError>>;

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
    /// Read these from history: the reading's number, the first and the last.
    pub(crate) fill: Option<(u64, u64, u64)>,
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
    /// It is the user's own log.
    pub(crate) is_own_log: bool,
    pub(crate) arrivals: Arrivals<Entry>,
    pub(crate) outbox: Outbox<Waiter>,
    pub(crate) stream: Option<Stream>,
    /// The application wants it live.
    pub(crate) live: bool,
    /// The server finished the idle stream; whoever has something to say opens the next.
    dormant: bool,
    /// When it did.
    finished_at: Option<Instant>,
    /// An Attach of ours is needed, whoever has something to say.
    attach_wanted: bool,
    /// The stream is finished once everything is said.
    closing: bool,
    /// The next planned look at this conversation.
    pub(crate) planned: Option<Instant>,
    /// No stream is opened before.
    pub(crate) reopen_at: Option<Instant>,
    pub(crate) receipts: OwnReceipts,
    member_receipts: MemberReceipts,
    /// The newest entry that the application has dealt with.
    pub(crate) handled: Option<Cursor>,
    /// When something was last written or read here.
    pub(crate) used: Instant,
    /// The number of the reading from history that is under way.
    filling: Option<u64>,
    fills: u64,
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
            is_own_log: false,
            handled: trail.newest(),
            arrivals: Arrivals::new(trail),
            outbox: Outbox::default(),
            stream: None,
            live: false,
            dormant: false,
            finished_at: None,
            attach_wanted: false,
            closing: false,
            planned: None,
            reopen_at: None,
            receipts: OwnReceipts::default(),
            member_receipts: MemberReceipts::default(),
            used: now,
            filling: None,
            fills: 0,
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
            Incoming::Push(push) => {
                // Without a name and without a peer it is a hole, which a page of history closes.
                if let Some(sender) = push.sender.or(self.peer) {
                    self.take_push(push.by(self.id, sender), current, cx, fx);
                }
            }
            Incoming::Ack { number, seq, time_ms, count } => {
                let found = if current {
                    self.outbox.remove_numbered(number)
                } else {
                    self.outbox.remove_left(generation, number)
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
            Incoming::Receipts(members) => self.take_receipts(members, fx),
            Incoming::Attach(attach) => self.take_attach(attach, current, cx, fx),
            Incoming::Gap { from, to, reason } => self.take_gap(from, to, reason, cx, fx),
            Incoming::Reset { to } => self.take_reset(generation, to, fx),
            Incoming::Superseded => {
                if current {
                    self.stream_gone();
                }
            }
        }
    }

    fn take_attach(&mut self, attach: Attach, current: bool, cx: &Context, fx: &mut Effects) {
        if let Some(own) = attach.receipts.iter().find(|receipt| receipt.user == Some(cx.me)) {
            self.receipts.prove(own.delivered, own.read, cx.now);
        }
        if attach.peer.is_some() {
            self.peer = attach.peer;
        }
        if current && let Some(stream) = &mut self.stream {
            stream.attached = true;
            self.reopen_at = None;
            fx.events.push(Event::Attached {
                conversation: self.id,
                head: attach.head,
                count: attach.count,
                peer: self.peer,
            });
        }
        self.take_receipts(attach.receipts, fx);
    }

    fn take_receipts(&mut self, said: Vec<SaidReceipt>, fx: &mut Effects) {
        let said = said.into_iter().filter_map(|receipt| receipt.of(self.peer)).collect();
        let members = self.member_receipts.raise(said);
        if !members.is_empty() {
            fx.events.push(Event::Receipts { conversation: self.id, members });
        }
    }

    /// Starts again after this cursor, as the application wishes.
    pub(crate) fn restart(&mut self, from: Cursor) {
        self.arrivals.restart(Some(from));
        self.handled = Some(from);
        self.filling = None;
        self.hole_since = None;
        self.stream_gone();
    }

    /// The application wants it live from here on.
    pub(crate) fn show(&mut self) {
        self.live = true;
        self.dormant = false;
        self.reopen_at = None;
    }

    /// The user looks again.
    pub(crate) fn came_back(&mut self) {
        if self.live && self.dormant {
            // What was not told of others' receipts comes with the Attach.
            self.show();
        }
        self.receipts.hurry();
        if let Some(stream) = &self.stream {
            stream.writer.notify_one();
        }
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

    /// Whether the stream is attached and nothing waits for an answer.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.outbox.is_empty() && self.stream.as_ref().is_some_and(|stream| stream.attached)
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
        let news = at.seq <= self.arrivals.position()
            && self.handled.is_none_or(|handled| handled.seq < at.seq);
        if news {
            self.handled = Some(at);
        }
        news
    }

    /// The cursors of what the application has dealt with.
    pub(crate) fn handled_trail(&self) -> CursorTrail {
        let mut trail = self.arrivals.trail().clone();
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
        let left = self.stream.take().map(|stream| {
            stream.writer.notify_one();
            stream.generation
        });
        self.outbox.start_stream(left);
        self.receipts.unconfirmed();
    }

    /// The current stream has ended, with this code if it was reset.
    pub(crate) fn stream_ended(&mut self, reset: Option<Code>, cx: &Context, fx: &mut Effects) {
        let idle = self.outbox.is_empty();
        let orderly =
            self.stream.as_ref().is_some_and(|stream| stream.attached && (stream.progress || idle));
        self.stream_gone();
        let wait = match reset.map(Code::action) {
            Some(Action::Retry { after_ms } | Action::Reconnect { after_ms }) => {
                Duration::from_millis(after_ms.into())
            }
            Some(Action::Reauthenticate | Action::GiveUp) => Duration::from_secs(1),
            None if orderly => Duration::ZERO,
            None => Duration::from_millis(200),
        };
        if wait.is_zero() {
            self.dormant = true;
            self.finished_at = Some(cx.now);
            self.reopen_at = None;
            return;
        }
        let at = cx.now + jittered(wait, cx.random);
        self.reopen_at = Some(self.reopen_at.map_or(at, |earlier| earlier.max(at)));
        fx.wake_at(at);
    }

    /// The connection is gone: everything on it comes again on the next.
    pub(crate) fn disconnected(&mut self, now: Instant) {
        self.receipts.disconnected(now);
        // What was pushed here goes on, with what comes in between.
        let finished = self.finished_at.take();
        let was_open = finished.is_some_and(|at| now.saturating_duration_since(at) < LAST_WORDS);
        self.attach_wanted |= self.stream.is_some() || was_open;
        self.stream_gone();
        self.dormant = false;
        self.reopen_at = None;
        self.filling = None;
        self.hole_since = None;
        self.arrivals.clear_held();
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
