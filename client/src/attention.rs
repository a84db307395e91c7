//! Foreground and background: whether the user looks at this device, what the server was told of it, and
//! what the client does less often meanwhile.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use petrel_proto::version::FEATURE_BACKGROUND;
use petrel_proto::wire;
use tokio::sync::watch;

use crate::client::Client;
use crate::conversation::Conversation;
use crate::shared::{Phase, Shared};

/// Whether somebody looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Attention {
    /// The user looks at this device, or is about to.
    #[default]
    Foreground,
    /// Nobody looks: the device is to be woken as seldom as possible, and the user does not count as
    /// being there.
    Background,
}

/// The state of one client.
#[derive(Debug)]
pub(crate) struct State {
    now: watch::Sender<Attention>,
    server: Mutex<Server>,
}

/// What is so on the connection that there is now.
#[derive(Debug, Default)]
struct Server {
    /// What the last Hello or Attention said.
    told: Attention,
    /// It knows of the background.
    understands: bool,
    /// It ends a connection that is silent for so long.
    idle_timeout: Option<Duration>,
}

impl State {
    pub(crate) fn new(now: Attention) -> Self {
        Self { now: watch::Sender::new(now), server: Mutex::default() }
    }

    pub(crate) fn is_background(&self) -> bool {
        *self.now.borrow() == Attention::Background
    }

    /// Tells of changes from here on.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Attention> {
        self.now.subscribe()
    }

    /// What the next Hello or Attention says, which counts as told.
    pub(crate) fn say(&self) -> bool {
        let now = *self.now.borrow();
        self.server.lock().told = now;
        now == Attention::Background
    }

    /// The server has answered Hello.
    pub(crate) fn welcomed(&self, welcome: &wire::Welcome) {
        let mut server = self.server.lock();
        server.understands = welcome.features.iter().any(|name| name == FEATURE_BACKGROUND);
        let idle_ms = u64::from(welcome.idle_timeout_ms);
        server.idle_timeout = (idle_ms > 0).then(|| Duration::from_millis(idle_ms));
    }

    /// Waits until the server has to be told something.
    pub(crate) async fn changed(&self) {
        let differs = |now: &Attention| {
            let server = self.server.lock();
            server.understands && server.told != *now
        };
        // An error would mean that the sender is gone, which is `self`.
        drop(self.now.subscribe().wait_for(differs).await);
    }
}

impl Shared {
    /// How often something has to be heard of the server, by a datagram if there is nothing else;
    /// `None`: never.
    pub(crate) fn keep_alive(&self) -> Option<Duration> {
        let dialer = &self.options.dialer;
        let wanted = match self.attention.is_background() {
            true => dialer.background_keep_alive(),
            false => dialer.keep_alive(),
        };
        let server = self.attention.server.lock().idle_timeout;
        let own = dialer.idle_timeout();
        // So that one that is lost can still be made up for.
        let longest = server.map_or(own, |server| server.min(own)) * 5 / 6;
        wanted.map(|wanted| wanted.min(longest))
    }

    /// How long delivered receipts are gathered.
    pub(crate) fn receipts_delay(&self) -> Duration {
        match self.attention.is_background() {
            true => self.options.background_receipts_delay.max(self.options.receipts_delay),
            false => self.options.receipts_delay,
        }
    }

    /// The longest wait between two dials.
    pub(crate) fn backoff_max(&self) -> Duration {
        match self.attention.is_background() {
            true => self.options.background_backoff_max.max(self.options.backoff_max),
            false => self.options.backoff_max,
        }
    }

    /// The user looks again: what was gathered is said, and what is shown live has its stream.
    fn came_back(self: &Arc<Self>) {
        self.each_goes_on(Conversation::came_back);
        if !matches!(*self.phase.borrow(), Phase::Online) {
            self.dial_now.notify_one();
        } else if self.attention.server.lock().understands {
            // The path may have died meanwhile: if the word of the return is not acknowledged, another
            // one is tried.
            self.moved.notify_one();
        }
    }
}

impl Client {
    /// Says whether the user looks at this device. In the background the server holds what can wait for up to
    /// a minute and sends it together, nothing is heard of typing, presence and others' receipts, the
    /// path is kept open with a packet each 100 s instead of 20 s, and the user is shown as away. What is sent goes
    /// out as ever. Coming back brings all of it at once. Holds over reconnects.
    pub fn set_attention(&self, attention: Attention) {
        let shared = self.shared();
        let is_new = shared.attention.now.send_if_modified(|now| {
            let before = std::mem::replace(now, attention);
            before != attention
        });
        if is_new && attention == Attention::Foreground {
            shared.came_back();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use std::future::Future as _;
    use std::pin::pin;
    use std::task::{Context, Waker};

    fn has_to_tell(state: &State) -> bool {
        let changed = pin!(state.changed());
        changed.poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn a_server_is_told_what_it_does_not_know_if_it_understands() {
        let state = State::new(Attention::Background);
        assert!(state.is_background() && state.say());
        let features = vec!["hologram".to_owned(), FEATURE_BACKGROUND.to_owned()];
        let welcome = wire::Welcome { features, ..wire::Welcome::default() };
        state.welcomed(&welcome);
        assert!(!has_to_tell(&state));
        state.now.send_replace(Attention::Foreground);
        assert!(has_to_tell(&state) && !state.say() && !has_to_tell(&state));
        // Twice within no time is nothing.
        state.now.send_replace(Attention::Background);
        state.now.send_replace(Attention::Foreground);
        assert!(!has_to_tell(&state));
        state.now.send_replace(Attention::Background);
        state.welcomed(&wire::Welcome::default());
        assert!(!has_to_tell(&state), "it would not understand");
    }
}
