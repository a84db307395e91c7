//! What is typed and heard, and what is to be done then.

use super::*;
use crate::event::{Acked, Receipt, Refused};
use crate::request::ContactCommand;
use petrel_proto::code::Code;

#[test]
fn a_message_goes_from_pending_to_stored_to_read() {
    let mut screen = Screen::with_two(80, 20);
    screen.effects();
    screen.type_line("on my way");
    assert_eq!(screen.effects(), [Effect::Send { to: pair(BOB), what: Saying::text("on my way") }]);
    screen.take(Input::Queued { to: pair(BOB), id: message(9), what: Saying::text("on my way") });
    assert!(screen.draw().contains("on my way …"));
    let acked = Acked { conversation: pair(BOB).id, id: message(9), seq: 5, time_ms: NOW_MS };
    screen.hear(Event::Acked(acked));
    assert!(screen.draw().contains("on my way ✓"));
    for (delivered, read, mark) in [(5, 0, "on my way ✓✓"), (5, 5, "on my way ✓✓ read")] {
        let members = vec![Receipt { user: BOB, delivered, read }];
        screen.hear(Event::Receipts { conversation: pair(BOB).id, members });
        assert!(screen.draw().contains(mark));
    }
}

#[test]
fn a_refused_message_says_why() {
    let mut screen = Screen::with_two(80, 20);
    screen.take(Input::Queued { to: pair(BOB), id: message(9), what: Saying::text("hey") });
    screen.hear(Event::Refused(Refused {
        conversation: pair(BOB).id,
        id: message(9),
        code: Code::Blocked,
        text: "a\u{1b}[31m block".into(),
        server_time_ms: None,
    }));
    let frame = screen.draw();
    assert!(frame.contains("not sent") && frame.contains("block"), "{frame}");
}

#[test]
fn only_what_was_on_the_screen_is_read() {
    let mut screen = Screen::with_two(80, 20);
    screen.effects();
    assert!(screen.draw().contains("new messages"));
    assert_eq!(screen.effects(), [Effect::Read { conversation: pair(BOB).id, seq: 4 }]);
    assert_eq!(screen.model.conversations[&pair(BOB).id].unread, 0);
    assert_eq!(screen.model.conversations[&pair(CAROL).id].unread, 1);
    // The help covers what comes now.
    screen.key(KeyCode::F(1));
    screen.hear(Event::Entry(entry(BOB, 5, BOB, "covered")));
    screen.draw();
    assert_eq!(screen.effects(), []);
    screen.key(KeyCode::Esc);
    screen.draw();
    assert_eq!(screen.effects(), [Effect::Read { conversation: pair(BOB).id, seq: 5 }]);
}

#[test]
fn another_conversation_counts_what_comes_and_is_opened_by_keys_and_mouse() {
    let mut screen = Screen::with_two(80, 20);
    screen.draw();
    screen.hear(Event::Entry(entry(CAROL, 2, CAROL, "and now?")));
    assert_eq!(screen.model.conversations[&pair(CAROL).id].unread, 2);
    screen.effects();
    screen.press(KeyCode::Down, KeyModifiers::ALT);
    assert_eq!(screen.model.selected, Some(pair(CAROL).id));
    screen.draw();
    let (place, id) = screen.model.drawn.list[0];
    screen.take(Input::Terminal(TerminalEvent::Mouse(crossterm::event::MouseEvent {
        kind: crossterm::event::MouseEventKind::Down(crossterm::event::MouseButton::Left),
        column: place.x,
        row: place.y,
        modifiers: KeyModifiers::NONE,
    })));
    assert_eq!(screen.model.selected, Some(id));
}

#[test]
fn a_preview_gives_way_to_the_message_or_to_time() {
    let mut screen = Screen::with_two(80, 20);
    let preview = |n| crate::entry::Preview {
        conversation: pair(BOB).id,
        id: message(n),
        sender: BOB,
        kind: crate::entry::kind::TEXT,
        body: Ok("soon".into()),
    };
    screen.hear(Event::Preview(preview(5)));
    assert!(screen.draw().contains("soon (not stored yet)"));
    screen.hear(Event::Entry(entry(BOB, 5, BOB, "soon")));
    screen.hear(Event::Preview(preview(5)));
    assert!(!screen.draw().contains("not stored yet"));
    screen.hear(Event::Preview(preview(6)));
    screen.take(Input::Clock(NOW_MS + 60_000));
    assert!(!screen.draw().contains("not stored yet"));
}

#[test]
fn older_messages_are_asked_for_at_the_top_and_once() {
    let mut screen = Screen::with_two(80, 20);
    let known = screen.model.conversations.get_mut(&pair(BOB).id).unwrap();
    known.log.forget_before(100);
    known.has_start = false;
    screen.effects();
    for seq in 150..=170 {
        screen.hear(Event::Entry(entry(BOB, seq, BOB, "x")));
    }
    screen.draw();
    screen.press(KeyCode::Home, KeyModifiers::CONTROL);
    screen.draw();
    screen.draw();
    let asked = screen.effects();
    let history = Effect::History { conversation: pair(BOB).id, to: 149 };
    assert_eq!(asked.iter().filter(|effect| **effect == history).count(), 1, "{asked:?}");
}

#[test]
fn what_is_on_the_screen_stays_there_while_it_is_scrolled() {
    let mut screen = Screen::with_two(80, 20);
    for seq in 5..=60 {
        screen.hear(Event::Entry(entry(BOB, seq, BOB, &format!("number {seq}."))));
    }
    screen.draw();
    screen.key(KeyCode::PageUp);
    let before = screen.draw();
    screen.hear(Event::Entry(entry(BOB, 61, BOB, "number 61.")));
    let after = screen.draw();
    assert!(!after.contains("bob: number 61."));
    for seq in 40..=44 {
        let line = format!("bob: number {seq}.");
        assert_eq!(before.contains(&line), after.contains(&line));
    }
    screen.press(KeyCode::End, KeyModifiers::CONTROL);
    assert!(screen.draw().contains("bob: number 61."));
}

#[test]
fn searching_goes_from_the_newest_match_to_older_ones() {
    let mut screen = Screen::with_two(80, 20);
    screen.press(KeyCode::Char('f'), KeyModifiers::CONTROL);
    for c in "HELLO".chars() {
        screen.key(KeyCode::Char(c));
    }
    let at = |screen: &Screen| screen.model.search.as_ref().unwrap().at;
    assert_eq!(at(&screen), Some(2));
    assert!(screen.draw().contains("2 found"));
    screen.key(KeyCode::Enter);
    assert_eq!(at(&screen), Some(1));
    screen.key(KeyCode::Up);
    assert_eq!(at(&screen), Some(2));
    screen.key(KeyCode::Esc);
    assert!(screen.model.search.is_none());
}

#[test]
fn commands_ask_and_wrong_ones_say_what_is_wrong() {
    let mut screen = Screen::with_two(80, 20);
    screen.effects();
    screen.type_line("/block bob");
    let purpose = Purpose::Contact(ContactCommand::Block(true));
    let names = vec!["bob".to_owned()];
    assert_eq!(screen.effects(), [Effect::Find { names, purpose: purpose.clone() }]);
    screen.take(Input::Found { names: vec!["nobody".into()], purpose, found: Vec::new() });
    assert!(screen.draw().contains("there is no user nobody"));
    screen.effects();
    screen.type_line("/nonsense");
    assert_eq!(screen.effects(), []);
    assert!(screen.draw().contains("there is no /nonsense"));
    // It can be corrected.
    assert_eq!(screen.model.composer.text(), "/nonsense");
    screen.press(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(screen.effects(), [Effect::Quit]);
}

#[test]
fn tab_completes_commands_and_names() {
    let mut screen = Screen::with_two(80, 20);
    for c in "/dm ca".chars() {
        screen.key(KeyCode::Char(c));
    }
    screen.key(KeyCode::Tab);
    assert_eq!(screen.model.composer.text(), "/dm carol ");
}

#[test]
fn a_pasted_text_of_several_lines_is_one_message() {
    let mut screen = Screen::with_two(80, 20);
    screen.effects();
    screen.take(Input::Terminal(TerminalEvent::Paste("one\r\ntwo\u{1b}[0m".into())));
    screen.key(KeyCode::Enter);
    let text = "one\ntwo\u{fffd}[0m".to_owned();
    assert_eq!(screen.effects(), [Effect::Send { to: pair(BOB), what: Saying::text(text) }]);
}

#[test]
fn lost_connections_are_counted_down() {
    let mut screen = Screen::with_two(80, 20);
    screen.hear(Event::Offline {
        why: crate::event::OfflineReason::Lost("no route".into()),
        retry_in: Some(std::time::Duration::from_secs(5)),
    });
    assert!(screen.draw().contains("reconnecting in 5 s"));
    screen.take(Input::Clock(NOW_MS + 3_500));
    assert!(screen.draw().contains("reconnecting in 2 s"));
}

fn reactions(screen: &Screen, seq: u64) -> Vec<(String, u32)> {
    let row = screen.model.conversations[&pair(BOB).id].log.get(seq).unwrap();
    row.reactions.iter().map(|one| (one.emoji.clone(), one.count)).collect()
}

#[test]
fn changes_are_done_to_their_message_once() {
    let mut screen = Screen::with_two(80, 20);
    let change =
        |seq, kind, text: &str| Entry { kind, target: Some(2), ..entry(BOB, seq, BOB, text) };
    use crate::entry::kind;
    screen.hear(Event::Entry(change(5, kind::EDIT, "hello again")));
    screen.hear(Event::Entry(change(6, kind::REACT, "👍")));
    screen.hear(Event::Entry(change(6, kind::REACT, "👍")));
    let frame = screen.draw();
    assert!(frame.contains("hello again (edited)") && frame.contains("[👍"), "{frame}");
    assert_eq!(reactions(&screen, 2), [("👍".to_owned(), 1)]);
    assert!(screen.effects().contains(&Effect::Read { conversation: pair(BOB).id, seq: 6 }));
    screen.hear(Event::Entry(change(7, kind::RECALL, "")));
    assert!(screen.draw().contains("(recalled)"));
}
