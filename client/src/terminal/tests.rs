//! The model as it is typed and spoken to, and what the screen looks like then.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod bytes;
mod frames;
mod groups;
mod messages;
mod passing;
mod people;
mod updates;

use crossterm::event::{Event as TerminalEvent, KeyCode, KeyEvent, KeyModifiers};
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::effect::{Answer, Ask, Effect, Input, Purpose, Saying};
use super::model::Model;
use super::update::update;
use super::view;
use crate::entry::{Entry, EntryState};
use crate::event::{ConversationRef, Event};
use crate::id::{ConversationId, MessageId, UserId};
use crate::request::{Group, GroupProfile, Role, Summaries, Summary, UserFound};
use petrel_proto::wire;
use petrel_transport::Kind as TransportKind;
use prost::Message as _;

const ME: UserId = UserId([1; 16]);
const BOB: UserId = UserId([2; 16]);
const CAROL: UserId = UserId([3; 16]);
/// 2026-11-24, 10:00 UTC.
const NOW_MS: u64 = 1_795_514_400_000;

fn pair(peer: UserId) -> ConversationRef {
    ConversationRef { id: ConversationId::of_pair(ME, peer), peer: Some(peer) }
}

fn message(n: u8) -> MessageId {
    MessageId([n; 16])
}

fn entry(peer: UserId, seq: u64, sender: UserId, text: &str) -> Entry {
    Entry {
        conversation: pair(peer).id,
        seq,
        id: message(u8::try_from(seq).unwrap()),
        sender,
        time_ms: NOW_MS - 600_000 + seq * 60_000,
        count: seq,
        kind: crate::entry::kind::TEXT,
        body: Ok(text.to_owned().into()),
        target: None,
        mentions: Vec::new(),
        state: EntryState::default(),
    }
}

fn user_found(user: UserId, name: &str) -> UserFound {
    UserFound { user, name: name.to_owned(), nickname: String::new(), avatar: String::new() }
}

fn summary(peer: UserId, name: &str, unread: u64, last: Entry) -> Summary {
    Summary {
        conversation: pair(peer).id,
        peer: Some(user_found(peer, name)),
        group: None,
        unread,
        mentions: 0,
        settings: crate::request::MemberSettings::default(),
        own: (0, last.seq - unread),
        peer_receipt: (0, 0),
        last_activity_ms: last.time_ms,
        last: Some(last),
    }
}

/// The group that tests chat in.
const GROUP: ConversationId = ConversationId([7; 16]);

fn in_group(seq: u64, sender: UserId, text: &str) -> Entry {
    Entry { conversation: GROUP, ..entry(BOB, seq, sender, text) }
}

fn happened(seq: u64, sender: UserId, what: wire::event::What) -> Entry {
    let body = wire::Event { what: Some(what) }.encode_to_vec();
    let kind = crate::entry::kind::GROUP;
    Entry { kind, body: Ok(body.into()), ..in_group(seq, sender, "") }
}

fn group(name: &str, role: Role) -> Group {
    Group {
        conversation: GROUP,
        profile: GroupProfile::new(name),
        members: 3,
        role,
        refused: Vec::new(),
        asked: false,
    }
}

fn group_summary(name: &str, role: Role, last: Entry) -> Summary {
    Summary {
        conversation: GROUP,
        peer: None,
        group: Some(group(name, role)),
        own: (last.seq, last.seq),
        ..summary(BOB, "bob", 0, last)
    }
}

/// A model and the size of its screen.
struct Screen {
    model: Model,
    size: (u16, u16),
    effects: Vec<Effect>,
}

impl Screen {
    fn new(columns: u16, rows: u16) -> Self {
        let model = Model::new(ME, "alice", NOW_MS);
        let mut screen = Self { model, size: (columns, rows), effects: Vec::new() };
        let online = Event::Online {
            user: ME,
            session: [0; 16],
            clock_offset_ms: 0,
            transport: TransportKind::Quic,
        };
        screen.hear(online);
        screen
    }

    /// With a conversation with bob, in which two messages are new, and one with carol.
    fn with_two(columns: u16, rows: u16) -> Self {
        let mut screen = Self::new(columns, rows);
        let summaries = vec![
            summary(BOB, "bob", 2, entry(BOB, 4, BOB, "are you there? 你好 🌊")),
            summary(CAROL, "carol", 1, entry(CAROL, 1, CAROL, "lunch?")),
        ];
        screen.take(Input::Listed(Summaries { summaries, ..Summaries::default() }));
        let entries = vec![
            entry(BOB, 1, ME, "hello bob"),
            entry(BOB, 2, BOB, "hello yourself"),
            entry(
                BOB,
                3,
                BOB,
                "a longer line, which does not fit into a narrow pane and is broken",
            ),
            entry(BOB, 4, BOB, "are you there? 你好 🌊"),
        ];
        let page = crate::request::Page { entries, head: 4, ..crate::request::Page::default() };
        screen.take(Input::Page { conversation: pair(BOB).id, page });
        screen
    }

    /// With a group of alice, bob and carol, in which things happened.
    fn with_group(columns: u16, rows: u16) -> Self {
        use wire::event::What;
        let mut screen = Self::new(columns, rows);
        let ids = |users: &[UserId]| users.iter().map(|user| user.to_bytes()).collect();
        let profile = |muted| {
            let (name, joins) = ("walkers".to_owned(), 1);
            Some(wire::GroupProfile { name, joins, muted, ..Default::default() })
        };
        let entries = vec![
            happened(
                1,
                ME,
                What::GroupMade(wire::GroupMade { profile: profile(false), users: ids(&[BOB]) }),
            ),
            happened(2, BOB, What::MembersAdded(wire::MembersAdded { users: ids(&[CAROL]) })),
            in_group(3, CAROL, "where do we meet?"),
            happened(4, ME, What::ProfileChanged(wire::ProfileChanged { profile: profile(true) })),
            Entry { target: Some(3), ..in_group(5, ME, "at the bridge") },
        ];
        let last = entries.last().cloned().unwrap();
        let summaries = vec![group_summary("walkers", Role::Owner, last)];
        screen.take(Input::Listed(Summaries { summaries, ..Summaries::default() }));
        screen.take(Input::Names(vec![user_found(BOB, "bob"), user_found(CAROL, "carol")]));
        let page = crate::request::Page { entries, head: 5, ..crate::request::Page::default() };
        screen.take(Input::Page { conversation: GROUP, page });
        screen
    }

    fn take(&mut self, input: Input) {
        self.effects.extend(update(&mut self.model, input));
    }

    fn hear(&mut self, event: Event) {
        self.take(Input::Client(event));
    }

    fn press(&mut self, code: KeyCode, modifiers: KeyModifiers) {
        self.take(Input::Terminal(TerminalEvent::Key(KeyEvent::new(code, modifiers))));
    }

    fn key(&mut self, code: KeyCode) {
        self.press(code, KeyModifiers::NONE);
    }

    fn type_line(&mut self, text: &str) {
        for c in text.chars() {
            self.key(KeyCode::Char(c));
        }
        self.key(KeyCode::Enter);
    }

    /// Draws a frame, as the shell does, and gives it as text.
    fn draw(&mut self) -> String {
        let mut terminal = Terminal::new(TestBackend::new(self.size.0, self.size.1)).unwrap();
        let mut drawn = view::Drawn::default();
        terminal.draw(|frame| drawn = view::draw(&self.model, frame)).unwrap();
        self.take(Input::Drawn(drawn));
        terminal.backend().to_string()
    }

    /// What is to be done, but for what is said in passing.
    fn effects(&mut self) -> Vec<Effect> {
        let mut effects = std::mem::take(&mut self.effects);
        let in_passing =
            |effect: &Effect| matches!(effect, Effect::Typing { .. } | Effect::Watch(_));
        effects.retain(|effect| !in_passing(effect));
        effects
    }

    /// Whose presence was asked for last.
    fn watched(&mut self) -> Option<Vec<UserId>> {
        let effects = std::mem::take(&mut self.effects).into_iter().rev();
        effects.into_iter().find_map(|effect| match effect {
            Effect::Watch(users) => Some(users),
            _ => None,
        })
    }

    /// Where the user was said to write, or to do so no longer.
    fn typing(&mut self) -> Vec<(ConversationId, bool)> {
        let effects = std::mem::take(&mut self.effects);
        let typing = effects.into_iter().filter_map(|effect| match effect {
            Effect::Typing { conversation, is_typing } => Some((conversation, is_typing)),
            _ => None,
        });
        typing.collect()
    }
}
