//! What passes: who is writing, who is there.

use super::*;

#[test]
fn writing_a_message_is_said_and_its_end_once() {
    let mut screen = Screen::with_two(80, 20);
    let (bob, carol) = (pair(BOB).id, pair(CAROL).id);
    screen.typing();
    screen.key(KeyCode::Char('h'));
    screen.key(KeyCode::Char('i'));
    assert_eq!(screen.typing(), [(bob, true), (bob, true)]);
    // Moving the cursor says nothing; sending ends it.
    screen.key(KeyCode::Left);
    assert_eq!(screen.typing(), []);
    screen.key(KeyCode::Enter);
    assert_eq!(screen.typing(), [(bob, false)]);
    // Taking all back ends it as well, and so does going elsewhere, where it begins with a key.
    screen.key(KeyCode::Char('h'));
    screen.key(KeyCode::Backspace);
    assert_eq!(screen.typing(), [(bob, true), (bob, false)]);
    screen.key(KeyCode::Char('h'));
    screen.press(KeyCode::Down, KeyModifiers::ALT);
    assert_eq!(screen.typing(), [(bob, true), (bob, false)]);
    screen.key(KeyCode::Char('o'));
    assert_eq!(screen.typing(), [(carol, true)]);
}

#[test]
fn commands_passwords_and_searches_are_written_to_nobody() {
    let mut screen = Screen::with_two(80, 20);
    screen.typing();
    for c in "/remark bob x".chars() {
        screen.key(KeyCode::Char(c));
    }
    screen.press(KeyCode::Char('u'), KeyModifiers::CONTROL);
    screen.type_line("/password");
    screen.key(KeyCode::Char('x'));
    screen.key(KeyCode::Esc);
    screen.press(KeyCode::Char('f'), KeyModifiers::CONTROL);
    screen.key(KeyCode::Char('x'));
    screen.key(KeyCode::Esc);
    assert_eq!(screen.typing(), []);
    // What begins with // is a message.
    screen.take(Input::Terminal(TerminalEvent::Paste("//x".into())));
    assert_eq!(screen.typing(), [(pair(BOB).id, true)]);
}

#[test]
fn who_is_writing_is_shown_in_the_list_and_above_the_messages() {
    let mut screen = Screen::with_group(80, 16);
    let typing = |user, typing| Event::Typing { conversation: GROUP, user, typing };
    screen.hear(typing(BOB, true));
    assert_eq!(screen.draw().matches("bob is writing").count(), 2);
    screen.hear(typing(CAROL, true));
    assert!(screen.draw().contains("(bob and carol are writing)"));
    screen.hear(typing(BOB, false));
    screen.hear(Event::Entry(in_group(6, CAROL, "there")));
    assert!(!screen.draw().contains("writing"));
}

#[test]
fn who_is_in_the_list_is_watched_and_friends_too() {
    let mut screen = Screen::with_two(80, 16);
    let mut wanted = vec![BOB, CAROL];
    assert_eq!(screen.watched(), Some(wanted.clone()));
    let dave = UserId([9; 16]);
    let contacts = vec![
        people::contact(dave, "dave", crate::request::Friendship::Friends),
        people::contact(UserId([8; 16]), "eve", crate::request::Friendship::Invited),
    ];
    let contacts = crate::request::Contacts { contacts, ..Default::default() };
    screen.take(Input::Answered(Answer::Contacts(contacts)));
    wanted.push(dave);
    assert_eq!(screen.watched(), Some(wanted));
    // Who writes first is watched from then on.
    let eve = UserId([8; 16]);
    screen.hear(Event::Entry(entry(eve, 1, eve, "hello")));
    assert_eq!(screen.watched(), Some(vec![BOB, CAROL, eve, dave]));
    let list = Summaries::default();
    screen.take(Input::Listed(list));
    assert_eq!(screen.watched(), None);
}

#[test]
fn who_is_there_has_a_dot_until_the_connection_is_lost() {
    let mut screen = Screen::with_two(80, 16);
    screen.hear(Event::Presence { user: BOB, online: true, seen_ms: NOW_MS });
    assert_eq!(screen.draw().matches("● bob").count(), 2);
    screen.hear(Event::Presence { user: BOB, online: false, seen_ms: NOW_MS });
    assert!(screen.draw().contains("bob, last there 2026-11-24 10:00"));
    screen.hear(Event::Presence { user: BOB, online: true, seen_ms: NOW_MS });
    screen.hear(Event::Offline {
        why: crate::event::OfflineReason::Lost("no route".into()),
        retry_in: None,
    });
    assert!(!screen.draw().contains("●"));
}
