//! Foreground and background: a client says whether its user looks at it. A session in the background is
//! sent what cannot wait and, once in a while, all the rest (`send_queue/hold.rs`); it hears of
//! no typing, presence, previews and others' receipts, and it does not count as being there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use petrel_core::rate::{Bucket, Rate};

use crate::gateway::Gateway;
use crate::session::Session;
use crate::{clock, metrics, translate};

/// How often a session may go or come back: once in so many milliseconds in the long run, and so often
/// at once. What is said beyond that holds with the next look at all sessions.
const RATE: (u64, u32) = (2_000, 8);

/// What a client has said.
#[derive(Debug, Default)]
pub(crate) struct Attention {
    is_background: AtomicBool,
    changes: Mutex<Bucket>,
}

impl Attention {
    /// What the client said last.
    pub(crate) fn is_background(&self) -> bool {
        self.is_background.load(Ordering::Relaxed)
    }

    /// The client says it. `false` if that comes too often to be carried out at once.
    fn say(&self, background: bool) -> bool {
        self.is_background.store(background, Ordering::Relaxed);
        let (interval_ms, burst) = RATE;
        let rate = Rate::one_in(interval_ms, burst);
        self.changes.lock().take(rate, clock::monotonic_ns()).is_ok()
    }
}

impl Gateway {
    /// A client says whether it is in the background. `false` if it may not, without the feature.
    pub(crate) fn hear_attention(&self, session: &Arc<Session>, background: bool) -> bool {
        let Some(attention) = session.attention() else { return false };
        if attention.say(background) {
            self.follow_attention(session);
        } else {
            metrics::background::delayed();
        }
        true
    }

    /// A session begins in the background. It is not in the table yet.
    pub(crate) fn begin_in_background(&self, session: &Session) {
        if let Some(attention) = session.attention() {
            attention.say(true);
            session.queue().set_background(Some(self.hold_s()));
        }
    }

    /// Carries out what the client said last, if that is not done yet.
    pub(crate) fn follow_attention(&self, session: &Arc<Session>) {
        let Some(attention) = session.attention() else { return };
        let is_background = attention.is_background();
        let hold_s = is_background.then(|| self.hold_s());
        let Some(owed) = session.queue().set_background(hold_s) else { return };
        metrics::background::changed(is_background);
        self.sessions.changed(session.user());
        self.attendance_changed(session.user());
        if is_background {
            // Until now its user was there.
            self.seen.note(session.device());
            return;
        }
        self.presence.came_back(session);
        for id in owed {
            let Some(cell) = self.conversations.cached(id) else { continue };
            cell.with(|conversation| {
                let receipts = conversation.receipts_for(session.user()).iter();
                let members = receipts.map(|(user, r)| translate::member_receipt(*user, *r));
                let frame = translate::receipts(members.collect());
                session.queue().put_along(id, &frame, clock::coarse_s());
            });
        }
        // Not with the next entry, but now.
        session.queue().hurry();
    }

    fn hold_s(&self) -> u32 {
        u32::try_from(self.config.gateway.background_hold.0 / 1_000).unwrap_or(u32::MAX)
    }
}
