//! Answers to what was sent: acknowledgements and refusals.

use std::time::Duration;

use petrel_proto::code::{Action, Code};

use super::{Context, Conversation, Effects, Waiter};
use crate::backoff::jittered;
use crate::body;
use crate::entry::{Entry, EntryState};
use crate::error::SendOutcomeError;
use crate::event::{Acked, Event, Refused};
use crate::incoming::Refusal;
use crate::outbox::{Pause, Queued};

/// How long to wait before going on after a refusal whose cause is not known.
const FOLLOWER_PAUSE: Duration = Duration::from_millis(50);
/// A wait never grows beyond this, unless the server says so.
const WAIT_MAX: Duration = Duration::from_secs(15);

impl Conversation {
    pub(super) fn take_ack(
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
            kind: message.content.kind,
            body: body::decode(message.content.encoding, &message.content.body),
            target: message.content.target,
            mentions: message.content.mentions.to_vec(),
            state: EntryState::default(),
        };
        self.answered(&entry, message, fx);
        self.take_entry(entry, fx);
        self.look_for_hole(false, cx, fx);
    }

    pub(super) fn answered(&mut self, entry: &Entry, message: Queued<Waiter>, fx: &mut Effects) {
        let acked =
            Acked { conversation: self.id, id: message.id, seq: entry.seq, time_ms: entry.time_ms };
        self.refusals = 0;
        self.progress();
        fx.removed.push((message.id, message.content.bytes()));
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

    pub(super) fn take_refusal(
        &mut self,
        number: u64,
        refusal: Refusal,
        cx: &Context,
        fx: &mut Effects,
    ) {
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
    pub(super) fn take_stream_refusal(&mut self, refusal: Refusal, cx: &Context, fx: &mut Effects) {
        let attached = self.stream.as_ref().is_some_and(|stream| stream.attached);
        match refusal.code.action() {
            Action::Reauthenticate => {
                self.outbox.set_pause(Pause::Token);
                self.reopen_at = Some(cx.now + WAIT_MAX);
                fx.refresh = true;
            }
            // A member who is out reads what was his; then NotFound ends the stream for good.
            Action::GiveUp if !attached || refusal.code == Code::NotFound => {
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
            action => {
                // Its Attach was written, and is to be again.
                self.attach_wanted |= !matches!(action, Action::GiveUp);
                self.reopen_at = Some(cx.now + self.wait(&refusal, cx));
            }
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
        fx.removed.push((message.id, message.content.bytes()));
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
}
