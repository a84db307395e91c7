//! Who is typing: said and heard in datagrams, which may be lost.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use petrel_proto::frame;
use petrel_proto::version::FEATURE_TYPING;
use petrel_proto::wire::{self, frame::What};
use prost::Message;

use crate::client::Client;
use crate::event::Event;
use crate::id::{ConversationId, UserId};
use crate::incoming;
use crate::shared::Shared;

/// How often it is said for one conversation, at the most.
const SAY_EVERY: Duration = Duration::from_secs(3);
/// How long it holds without being said again.
const HOLDS: Duration = Duration::from_secs(6);
/// People who type at once, in all conversations, that are known; more are not told of.
const TYPISTS_MAX: usize = 256;
/// Conversations in which this client types at once; in more it is not said.
const SAID_MAX: usize = 64;

/// Who types, and what was said of oneself. Pure.
#[derive(Debug, Default)]
pub(crate) struct Typing {
    /// The server takes and sends it on this connection.
    in_use: bool,
    /// Until when each typist counts as one.
    until: HashMap<(ConversationId, UserId), Instant>,
    /// When the client said last that it types.
    said: HashMap<ConversationId, Instant>,
}

impl Typing {
    pub(crate) fn connected(&mut self, features: &[String]) {
        self.in_use = features.iter().any(|feature| feature == FEATURE_TYPING);
    }

    pub(crate) fn connection_gone(&mut self) {
        self.in_use = false;
        self.said.clear();
    }

    /// Whether to say now that the client types, or has stopped.
    fn say(&mut self, conversation: ConversationId, typing: bool, now: Instant) -> bool {
        if !self.in_use {
            return false;
        }
        if !typing {
            return self.said.remove(&conversation).is_some();
        }
        self.said.retain(|_, at| now < *at + SAY_EVERY);
        if self.said.contains_key(&conversation) || self.said.len() >= SAID_MAX {
            return false;
        }
        self.said.insert(conversation, now);
        true
    }

    /// Somebody types, or has stopped. Says whether that is news.
    fn hear(&mut self, at: (ConversationId, UserId), typing: bool, now: Instant) -> bool {
        if !typing {
            return self.until.remove(&at).is_some();
        }
        if self.until.len() >= TYPISTS_MAX && !self.until.contains_key(&at) {
            return false;
        }
        self.until.insert(at, now + HOLDS).is_none()
    }

    /// When the next typist stops counting as one.
    pub(crate) fn next_end(&self) -> Option<Instant> {
        self.until.values().min().copied()
    }

    /// Those who have not said it for too long.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<Event> {
        let over = self.until.extract_if(|_, until| *until <= now);
        over.map(|(at, _)| stopped(at)).collect()
    }

    /// Those whose messages have come.
    pub(crate) fn ended_by(&mut self, events: &[Event]) -> Vec<Event> {
        if self.until.is_empty() {
            return Vec::new();
        }
        let at = events.iter().filter_map(|event| match event {
            Event::Entry(entry) if entry.is_message() => Some((entry.conversation, entry.sender)),
            _ => None,
        });
        at.filter(|at| self.until.remove(at).is_some()).map(stopped).collect()
    }
}

fn stopped((conversation, user): (ConversationId, UserId)) -> Event {
    Event::Typing { conversation, user, typing: false }
}

impl Shared {
    /// Somebody says that he types, or has stopped.
    pub(crate) fn heard_typing(self: &Arc<Self>, frame: &wire::Frame, said: &wire::Typing) {
        let (Ok(conversation), Ok(user)) =
            (ConversationId::from_slice(&said.conversation), incoming::user_id(&frame.sender))
        else {
            tracing::debug!("a Typing with ids of another size");
            return;
        };
        let typing = !said.stopped;
        let mut state = self.state.lock();
        let known = state.conversations.contains_key(&conversation);
        if !known || user == self.options.identity.user {
            return;
        }
        if state.typing.hear((conversation, user), typing, Instant::now()) {
            self.events.push_all([Event::Typing { conversation, user, typing }]);
            self.timer.notify_one();
        }
        drop(state);
        self.settle();
    }
}

impl Client {
    /// Says that the user types in a conversation, or has stopped. Call it with each keystroke: it
    /// is said at most once in 3 s, in a datagram that may be lost, and not at all when there is no
    /// connection or the server does not carry it.
    pub fn typing(&self, conversation: ConversationId, typing: bool) {
        let shared = self.shared();
        let mut state = shared.state.lock();
        let Some(connection) = state.connection.clone() else {
            return;
        };
        if !state.typing.say(conversation, typing, Instant::now()) {
            return;
        }
        drop(state);
        let said = wire::Typing { conversation: conversation.to_bytes(), stopped: !typing };
        let datagram = frame::bare(What::Typing(said)).encode_to_vec().into();
        if let Err(error) = connection.send_datagram(datagram) {
            tracing::debug!(%error, "a Typing was not sent");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: ConversationId = ConversationId([1; 16]);
    const BOB: UserId = UserId([2; 16]);

    fn typing() -> Typing {
        let mut typing = Typing::default();
        typing.connected(&[FEATURE_TYPING.to_owned()]);
        typing
    }

    #[test]
    fn it_is_said_once_in_three_seconds_and_its_end_once() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut typing = typing();
        assert!(typing.say(HERE, true, at(0)));
        assert!(!typing.say(HERE, true, at(2_999)));
        assert!(typing.say(HERE, true, at(3_000)));
        assert!(typing.say(HERE, false, at(3_100)));
        assert!(!typing.say(HERE, false, at(3_200)));
        assert!(!Typing::default().say(HERE, true, at(0)));
        for n in 0..SAID_MAX as u128 {
            assert!(typing.say(ConversationId(n.to_be_bytes()), true, at(4_000)));
        }
        assert!(!typing.say(HERE, true, at(4_000)));
    }

    #[test]
    fn a_typist_who_says_nothing_more_stops_after_six_seconds() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut typing = typing();
        assert!(typing.hear((HERE, BOB), true, at(0)));
        assert!(!typing.hear((HERE, BOB), true, at(3)));
        assert_eq!(typing.next_end(), Some(at(9)));
        assert_eq!(typing.expire(at(8)), []);
        assert_eq!(typing.expire(at(9)), [stopped((HERE, BOB))]);
        assert_eq!(typing.next_end(), None);
        for n in 0..2 * TYPISTS_MAX as u128 {
            typing.hear((HERE, UserId(n.to_be_bytes())), true, at(9));
        }
        assert_eq!(typing.until.len(), TYPISTS_MAX);
        // Those that are known still count.
        assert!(typing.hear((HERE, UserId(0_u128.to_be_bytes())), false, at(9)));
    }
}
