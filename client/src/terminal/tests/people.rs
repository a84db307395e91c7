//! Groups, contacts, devices and settings: what commands ask for, and what their answers show.

use ::bytes::Bytes;

use super::*;
use crate::id::DeviceId;
use crate::logged::{OwnChange, OwnEvent};
use crate::request::{
    Contact, ContactCommand, Contacts, Device, Friendship, GroupCommand, JoinBy, Joins, Link,
    LinkSecret, Member, MemberSettings, Members,
};
use crate::terminal::effect::{Privately, ProfileChange};

pub(super) fn contact(user: UserId, name: &str, friendship: Friendship) -> Contact {
    Contact {
        user: user_found(user, name),
        friendship,
        follows: false,
        is_followed: false,
        blocks: false,
        remark: String::new(),
        text: String::new(),
        changed_ms: NOW_MS,
    }
}

/// An entry of the own log.
pub(super) fn own(change: OwnChange) -> Event {
    Event::Own(OwnEvent {
        log: ConversationId::of_user(ME),
        cursor: crate::Cursor::of(&in_group(1, ME, "")),
        id: message(1),
        sender: ME,
        time_ms: NOW_MS,
        change,
    })
}

fn group_screen() -> Screen {
    let mut screen = Screen::with_group(80, 20);
    screen.draw();
    screen.effects();
    screen
}

/// What a line asks of the service once its names are looked up.
fn asked(screen: &mut Screen, line: &str) -> Ask {
    screen.effects();
    screen.type_line(line);
    let mut effects = screen.effects();
    if let [Effect::Find { names, purpose }] = effects.as_slice() {
        let found = [(BOB, "bob"), (CAROL, "carol"), (UserId([9; 16]), "dave")];
        let found = found.into_iter().filter(|(_, name)| names.iter().any(|one| one == name));
        let found = found.map(|(user, name)| user_found(user, name)).collect();
        let (names, purpose) = (names.clone(), purpose.clone());
        screen.take(Input::Found { names, purpose, found });
        effects = screen.effects();
    }
    match effects.as_slice() {
        [Effect::Ask(ask)] => ask.clone(),
        other => panic!("{line}: {other:?}\n{}", screen.draw()),
    }
}

/// What is said to a line that asks for nothing.
fn said(screen: &mut Screen, line: &str) -> String {
    screen.effects();
    screen.type_line(line);
    assert_eq!(screen.effects(), [], "{line}");
    // It stays, to be corrected.
    assert_eq!(screen.model.composer.text(), line);
    screen.press(KeyCode::Char('u'), KeyModifiers::CONTROL);
    screen.model.notice.clone().map(|(said, _)| said).unwrap_or_default()
}

#[test]
fn commands_change_the_group_on_the_screen() {
    let mut screen = group_screen();
    let change = |command| Ask::ChangeGroup { conversation: GROUP, command };
    let profile = |change| Ask::ChangeProfile { conversation: GROUP, change };
    let dave = UserId([9; 16]);
    let wanted = [
        ("/add dave", change(GroupCommand::Add(vec![dave]))),
        ("/remove @bob carol", change(GroupCommand::Remove(vec![BOB, CAROL]))),
        ("/leave", change(GroupCommand::Leave)),
        ("/role bob admin", change(GroupCommand::SetRole(BOB, Role::Admin))),
        ("/mute bob 10m", change(GroupCommand::Mute(BOB, NOW_MS + 600_000))),
        ("/mute bob", change(GroupCommand::Mute(BOB, MemberSettings::FOR_GOOD_MS))),
        ("/unmute bob", change(GroupCommand::Mute(BOB, 0))),
        ("/mute all", profile(ProfileChange::Muted(true))),
        ("/unmute all", profile(ProfileChange::Muted(false))),
        ("/rename hill walkers", profile(ProfileChange::Name("hill walkers".into()))),
        ("/joins open", profile(ProfileChange::Joins(Joins::Open))),
        ("/transfer carol", change(GroupCommand::Transfer(CAROL))),
        ("/link", Ask::Link(GROUP)),
    ];
    for (line, ask) in wanted {
        assert_eq!(asked(&mut screen, line), ask, "{line}");
    }
    let name = "walkers".to_owned();
    let users = vec![BOB];
    assert_eq!(asked(&mut screen, "/group walkers bob"), Ask::NewGroup { name, users });
    let (name, users) = ("alone".to_owned(), Vec::new());
    assert_eq!(asked(&mut screen, "/group alone"), Ask::NewGroup { name, users });
    let secret = LinkSecret::new([0xab; 32]);
    let join = format!("/join {}", secret.to_text());
    assert_eq!(asked(&mut screen, &join), Ask::Join(JoinBy::Link(secret)));
    assert!(said(&mut screen, "/role bob boss").contains("admin or member"));
    assert!(said(&mut screen, "/mute all 10m").contains("one USER"));
    let mut screen = Screen::with_two(80, 20);
    assert!(said(&mut screen, "/leave").contains("no group"));
}

#[test]
fn a_new_group_comes_onto_the_screen() {
    let mut screen = Screen::with_two(80, 20);
    screen.effects();
    let made = Group { refused: vec![CAROL], ..group("run\u{1b}ners", Role::Owner) };
    screen.take(Input::Answered(Answer::Joined(made)));
    assert_eq!(screen.model.selected, Some(GROUP));
    assert!(screen.effects().contains(&Effect::Attach(GROUP.into())));
    let frame = screen.draw();
    assert!(frame.contains("run\u{fffd}ners (3 members)"), "{frame}");
    assert!(frame.contains("carol could not be added"), "{frame}");
    let asked = Group { asked: true, ..group("climbers", Role::Outside) };
    screen.take(Input::Answered(Answer::Joined(asked)));
    assert!(screen.draw().contains("an admin has to accept"));
}

#[test]
fn members_are_listed_page_by_page() {
    let mut screen = group_screen();
    let page = Bytes::new();
    let first = Ask::Members { conversation: GROUP, page, is_shown: true };
    assert_eq!(asked(&mut screen, "/members"), first);
    let member = |user, name, role, muted_until_ms| Member {
        user: UserFound { nickname: format!("{name}!"), ..user_found(user, name) },
        role,
        muted_until_ms,
    };
    let members = Members {
        members: vec![
            member(ME, "alice", Role::Owner, 0),
            member(BOB, "bob", Role::Member, NOW_MS + 1),
        ],
        next_page: "more".into(),
    };
    let answer = Answer::Members { conversation: GROUP, members, is_shown: true };
    screen.take(Input::Answered(answer));
    let frame = screen.draw();
    assert!(frame.contains("alice! (@alice), owner"), "{frame}");
    assert!(frame.contains("bob! (@bob), muted until 2026-11-24 10:00"), "{frame}");
    screen.key(KeyCode::Char('n'));
    let next = Ask::Members { conversation: GROUP, page: "more".into(), is_shown: true };
    assert_eq!(screen.effects(), [Effect::Ask(next)]);
}

#[test]
fn a_link_is_shown_with_its_end() {
    let mut screen = group_screen();
    let link = Link {
        secret: Some(LinkSecret::new([0xcd; 32])),
        hash: [0; 32],
        by: ME,
        expires_ms: NOW_MS,
        uses_max: 0,
        uses: 0,
    };
    screen.take(Input::Answered(Answer::Link { conversation: GROUP, link }));
    let frame = screen.draw();
    assert!(frame.contains("cdcdcdcdcd") && frame.contains("until 2026-11-24"), "{frame}");
}

#[test]
fn commands_change_contacts_and_remarks_are_shown_in_place_of_names() {
    let mut screen = Screen::with_two(80, 20);
    let change = |user, command| Ask::ChangeContact { user, command };
    let wanted = [
        ("/ask bob it is me", ContactCommand::Ask("it is me".into())),
        ("/unfriend bob", ContactCommand::Remove),
        ("/follow bob", ContactCommand::Follow(true)),
        ("/unfollow bob", ContactCommand::Follow(false)),
        ("/remark bob Bobby", ContactCommand::Remark("Bobby".into())),
        ("/block bob", ContactCommand::Block(true)),
        ("/unblock bob", ContactCommand::Block(false)),
    ];
    for (line, command) in wanted {
        assert_eq!(asked(&mut screen, line), change(BOB, command), "{line}");
    }
    let remark = "Bob\u{202e}by".to_owned();
    let bob = Contact { remark, ..contact(BOB, "bob", Friendship::Friends) };
    screen.take(Input::Answered(Answer::Contact(bob)));
    let frame = screen.draw();
    assert!(frame.contains("Bob\u{fffd}by (@bob)"), "{frame}");
    assert!(frame.contains("Bob\u{fffd}by: hello yourself"), "{frame}");
    assert!(frame.contains("friends, remark"), "{frame}");
}

#[test]
fn who_asks_for_something_is_seen_and_answered() {
    let mut screen = group_screen();
    let text = "from the hut".to_owned();
    let asking = Contact { text, ..contact(BOB, "bob", Friendship::Invited) };
    screen.hear(own(OwnChange::Contact(asking.clone())));
    let frame = screen.draw();
    assert!(frame.contains("! 1 ask: /contacts"), "{frame}");
    assert!(frame.contains("bob asks to be friends: from the hut; /accept bob"), "{frame}");
    let dave = UserId([9; 16]);
    let join = |closed| OwnChange::JoinAsked {
        conversation: GROUP,
        user: user_found(dave, "dave"),
        text: "may I?".to_owned(),
        closed,
    };
    screen.hear(own(join(false)));
    assert!(screen.draw().contains("dave asks to join walkers"));
    screen.type_line("/contacts");
    let frame = screen.draw();
    assert!(frame.contains("! dave asks to join walkers: may I?"), "{frame}");
    assert!(frame.contains("! bob: asks to be friends: from the hut"), "{frame}");
    screen.key(KeyCode::Esc);
    let accept = Ask::ChangeContact { user: BOB, command: ContactCommand::Accept };
    assert_eq!(asked(&mut screen, "/accept bob"), accept);
    let decline = GroupCommand::Decline(dave);
    let decline = Ask::ChangeGroup { conversation: GROUP, command: decline };
    assert_eq!(asked(&mut screen, "/decline dave"), decline);
    screen.hear(own(join(true)));
    let friends = Contact { friendship: Friendship::Friends, ..asking };
    screen.hear(own(OwnChange::Contact(friends)));
    assert!(!screen.draw().contains("ask: /contacts"));
    screen.effects();
    screen.type_line("/accept carol");
    let names = vec!["carol".to_owned()];
    let found = vec![user_found(CAROL, "carol")];
    screen.effects();
    let purpose = Purpose::Answer { accepts: true };
    screen.take(Input::Found { names, purpose, found });
    assert!(screen.draw().contains("carol has asked for nothing"));
}

#[test]
fn contacts_are_loaded_once_and_again_when_changes_were_missed() {
    let mut screen = Screen::new(80, 20);
    assert!(screen.effects().contains(&Effect::Ask(Ask::Contacts)));
    let contacts = vec![contact(BOB, "bob", Friendship::Friends)];
    let contacts = Contacts { contacts, ..Contacts::default() };
    screen.take(Input::Answered(Answer::Contacts(contacts)));
    screen.hear(Event::Online {
        user: ME,
        session: [0; 16],
        clock_offset_ms: 0,
        transport: TransportKind::Quic,
    });
    assert!(!screen.effects().contains(&Effect::Ask(Ask::Contacts)));
    screen.type_line("/contacts");
    assert!(screen.draw().contains("bob: friends"));
    screen.hear(Event::OwnMissed);
    assert!(screen.effects().contains(&Effect::Ask(Ask::Contacts)));
}

#[test]
fn pinned_conversations_come_first_and_archived_ones_last() {
    let mut screen = Screen::with_two(80, 20);
    let order = |screen: &Screen| screen.model.order.clone();
    let (bob, carol) = (pair(BOB).id, pair(CAROL).id);
    assert_eq!(order(&screen), [bob, carol]);
    let pinned = MemberSettings { pinned_ms: 5, ..MemberSettings::default() };
    screen.hear(own(OwnChange::ConversationSet { conversation: carol, settings: pinned }));
    assert_eq!(order(&screen), [carol, bob]);
    assert!(screen.draw().contains("^ carol"));
    let archived = MemberSettings { archived: true, ..MemberSettings::default() };
    screen.take(Input::Answered(Answer::Settings { conversation: carol, settings: archived }));
    assert_eq!(order(&screen), [bob, carol]);
    let settings = |settings| Ask::Settings { conversation: bob, settings };
    let none = MemberSettings::default();
    let pinned = MemberSettings { pinned_ms: NOW_MS, ..none };
    assert_eq!(asked(&mut screen, "/pin"), settings(pinned));
    assert_eq!(asked(&mut screen, "/archive"), settings(archived));
    let silenced_until_ms = NOW_MS + 7_200_000;
    let silenced = MemberSettings { silenced_until_ms, ..none };
    assert_eq!(asked(&mut screen, "/silence 2h"), settings(silenced));
    screen.take(Input::Answered(Answer::Settings { conversation: bob, settings: silenced }));
    assert!(screen.draw().contains("~ bob"));
    assert_eq!(asked(&mut screen, "/silence off"), settings(none));
}

#[test]
fn devices_are_listed_and_signed_out_by_number() {
    let mut screen = Screen::with_two(80, 20);
    assert!(said(&mut screen, "/revoke 1").contains("no number 1"));
    assert_eq!(asked(&mut screen, "/devices"), Ask::Devices);
    let device = |n, label: &str, own| Device {
        device: DeviceId([n; 16]),
        label: label.to_owned(),
        created_ms: NOW_MS,
        seen_ms: 0,
        own,
    };
    let devices = vec![device(1, "terminal", true), device(2, "pho\u{1b}ne", false)];
    screen.take(Input::Answered(Answer::Devices(devices)));
    let frame = screen.draw();
    assert!(frame.contains("1. terminal (this one), added 2026-11-24"), "{frame}");
    assert!(frame.contains("2. pho\u{fffd}ne"), "{frame}");
    screen.key(KeyCode::Esc);
    assert_eq!(asked(&mut screen, "/revoke 2"), Ask::Revoke(Some(DeviceId([2; 16]))));
    assert_eq!(asked(&mut screen, "/revoke others"), Ask::Revoke(None));
    assert!(said(&mut screen, "/revoke 0").contains("no number 0"));
    let added = OwnChange::DeviceAdded { device: DeviceId([3; 16]), label: "tablet".into() };
    screen.hear(own(added));
    assert!(screen.draw().contains("a device was signed in as you: tablet"));
}

#[test]
fn the_own_account_is_changed_by_commands() {
    let mut screen = Screen::with_two(80, 20);
    assert_eq!(asked(&mut screen, "/nick Ali ce"), Ask::Nick("Ali ce".into()));
    let audience = crate::request::Audience::Nobody;
    let privacy = Ask::Privacy { what: Privately::Presence, audience };
    assert_eq!(asked(&mut screen, "/privacy presence nobody"), privacy);
    assert!(said(&mut screen, "/privacy presence some").contains("everybody, contacts or nobody"));
}

#[test]
fn a_password_is_never_on_the_screen() {
    let mut screen = Screen::with_two(80, 20);
    screen.type_line("/password");
    assert!(screen.draw().contains("password now (empty: none yet):"));
    screen.key(KeyCode::Enter);
    for _ in 0..2 {
        screen.take(Input::Terminal(TerminalEvent::Paste("battery staple".into())));
        let frame = screen.draw();
        assert!(frame.contains("••••") && !frame.contains("battery"), "{frame}");
        assert!(!format!("{:?}", screen.model).contains("battery"));
        screen.key(KeyCode::Enter);
    }
    let effects = screen.effects();
    assert!(!format!("{effects:?}").contains("battery"));
    assert!(matches!(effects.last(), Some(Effect::Ask(Ask::Password { old: None, .. }))));
    assert_eq!(screen.model.composer.text(), "");
    screen.type_line("/password");
    screen.key(KeyCode::Char('x'));
    screen.key(KeyCode::Esc);
    assert!(screen.model.prompt.is_none());
    assert_eq!(screen.model.composer.text(), "");
}

#[test]
fn the_own_log_is_not_in_the_list() {
    let mut screen = Screen::with_two(80, 20);
    let conversation = ConversationId::of_user(ME);
    screen.hear(Event::Attached { conversation, head: 3, count: 0, peer: None });
    assert_eq!(screen.model.order, [pair(BOB).id, pair(CAROL).id]);
}
