//! What is done with messages: by commands, by keys, by the mouse.

use crossterm::event::{MouseButton, MouseEvent, MouseEventKind};
use petrel_proto::code::Code;

use super::*;
use crate::entry::{Reaction, kind};
use crate::event::Refused;

fn said(what: Saying) -> [Effect; 1] {
    [Effect::Send { to: pair(BOB), what }]
}

fn group_said(what: Saying) -> [Effect; 1] {
    [Effect::Send { to: GROUP.into(), what }]
}

fn click(screen: &mut Screen, column: u16, row: u16) {
    let kind = MouseEventKind::Down(MouseButton::Left);
    let modifiers = KeyModifiers::NONE;
    let mouse = MouseEvent { kind, column, row, modifiers };
    screen.take(Input::Terminal(TerminalEvent::Mouse(mouse)));
}

/// A screen on which everything is drawn and nothing is to be done any more.
fn drawn(mut screen: Screen) -> Screen {
    screen.draw();
    screen.effects();
    screen
}

#[test]
fn commands_are_about_the_newest_message_that_fits() {
    let mut screen = drawn(Screen::with_two(80, 20));
    let target = 4;
    screen.type_line("/react +1");
    let emoji = "👍".to_owned();
    assert_eq!(screen.effects(), said(Saying::React { target, emoji, is_given: true }));
    screen.type_line("/reply yes");
    let mentions = Vec::new();
    let reply = Saying::Text { text: "yes".into(), reply_to: Some(4), mentions };
    assert_eq!(screen.effects(), said(reply));
    screen.type_line("/edit hello, bob");
    let edit = Saying::Edit { target: 1, revision: 0, text: "hello, bob".into() };
    assert_eq!(screen.effects(), said(edit));
    screen.type_line("/recall");
    assert_eq!(screen.effects(), said(Saying::Recall { target: 1 }));
    let conversation = pair(BOB).id;
    screen.type_line("/delete");
    assert_eq!(screen.effects(), [Effect::Ask(Ask::Hide { conversation, seq: 4 })]);
    screen.take(Input::Answered(Answer::Hidden { conversation, seq: 4 }));
    assert!(!screen.draw().contains("│09:54"));
    screen.type_line("/react two words");
    assert!(screen.draw().contains("/react EMOJI"));
}

#[test]
fn an_own_reaction_is_taken_back_as_it_was_given() {
    let mut screen = drawn(Screen::with_two(80, 20));
    let given = "❤\u{fe0f}".to_owned();
    let mut entry = entry(BOB, 4, BOB, "are you there?");
    entry.state.changed = 5;
    entry.state.reactions = vec![Reaction { emoji: given.clone(), count: 2, own: true }];
    screen.hear(Event::Entry(entry));
    assert!(screen.draw().contains("[❤ 2*]"));
    screen.type_line("/react heart");
    let what = Saying::React { target: 4, emoji: given, is_given: false };
    assert_eq!(screen.effects(), said(what));
}

#[test]
fn keys_select_a_message_and_do_something_with_it() {
    let mut screen = drawn(Screen::with_two(80, 20));
    screen.key(KeyCode::Esc);
    assert_eq!(screen.model.picked, Some(4));
    screen.key(KeyCode::Up);
    screen.key(KeyCode::Up);
    assert_eq!(screen.model.picked, Some(2));
    screen.key(KeyCode::Char('r'));
    assert!(screen.draw().contains("reply to bob> "));
    screen.type_line("well");
    let reply = Saying::Text { text: "well".into(), reply_to: Some(2), mentions: Vec::new() };
    assert_eq!(screen.effects(), said(reply));
    // Not one's own: said so, and nothing is done.
    screen.key(KeyCode::Esc);
    screen.key(KeyCode::Char('e'));
    assert!(screen.draw().contains("edit: not this message"));
    screen.key(KeyCode::Home);
    screen.key(KeyCode::Char('e'));
    assert_eq!(screen.model.composer.text(), "hello bob");
    assert!(screen.draw().contains("edit> "));
    screen.type_line("!");
    let edit = Saying::Edit { target: 1, revision: 0, text: "hello bob!".into() };
    assert_eq!(screen.effects(), said(edit));
    // What cannot be undone waits for Enter, and Esc leaves it.
    screen.key(KeyCode::Esc);
    screen.key(KeyCode::Home);
    screen.key(KeyCode::Char('x'));
    assert_eq!(screen.effects(), []);
    screen.key(KeyCode::Esc);
    assert_eq!((screen.model.composer.text(), screen.model.picked), ("", None));
    screen.key(KeyCode::Esc);
    screen.key(KeyCode::Home);
    screen.key(KeyCode::Char('x'));
    screen.key(KeyCode::Enter);
    assert_eq!(screen.effects(), said(Saying::Recall { target: 1 }));
}

#[test]
fn a_selected_message_is_brought_onto_the_screen() {
    let mut screen = Screen::with_two(80, 12);
    for seq in 5..=40 {
        screen.hear(Event::Entry(entry(BOB, seq, BOB, &format!("number {seq}."))));
    }
    let mut screen = drawn(screen);
    screen.key(KeyCode::Esc);
    for _ in 0..20 {
        screen.key(KeyCode::Up);
        screen.draw();
    }
    assert_eq!(screen.model.picked, Some(20));
    assert!(screen.draw().contains("number 20."));
}

#[test]
fn a_click_on_a_message_opens_its_menu() {
    let mut screen = drawn(Screen::with_two(80, 20));
    let (place, _) = *screen.model.drawn.messages.iter().find(|(_, seq)| *seq == 1).unwrap();
    click(&mut screen, place.x + 8, place.y);
    let frame = screen.draw();
    for label in ["r reply", "react 👍", "e edit", "x recall for everybody", "d delete for me"] {
        assert!(frame.contains(label), "{label} in\n{frame}");
    }
    let recall = frame.lines().position(|line| line.contains("x recall")).unwrap();
    let recall = u16::try_from(recall).unwrap();
    let column = screen.model.drawn.menu[0].0.x;
    click(&mut screen, column, recall);
    assert_eq!(screen.effects(), said(Saying::Recall { target: 1 }));
    // Of others' messages there is less; a click beside it closes it.
    let (place, _) = *screen.model.drawn.messages.iter().find(|(_, seq)| *seq == 2).unwrap();
    click(&mut screen, place.x + 8, place.y);
    assert!(!screen.draw().contains("x recall"));
    click(&mut screen, 0, 0);
    assert_eq!((&screen.model.overlay, screen.model.picked), (&None, None));
}

#[test]
fn the_menu_is_gone_through_by_keys() {
    let mut screen = drawn(Screen::with_group(80, 20));
    screen.key(KeyCode::Esc);
    screen.key(KeyCode::Up);
    screen.key(KeyCode::Up);
    screen.key(KeyCode::Enter);
    screen.draw();
    screen.key(KeyCode::Down);
    screen.key(KeyCode::Enter);
    let what = Saying::React { target: 3, emoji: "👍".into(), is_given: true };
    assert_eq!(screen.effects(), group_said(what));
    // Who looks after a group recalls others' messages.
    screen.key(KeyCode::Esc);
    screen.key(KeyCode::Up);
    screen.key(KeyCode::Up);
    screen.key(KeyCode::Enter);
    screen.key(KeyCode::Char('x'));
    assert_eq!(screen.effects(), group_said(Saying::Recall { target: 3 }));
}

#[test]
fn names_in_a_text_mention_their_users() {
    let mut screen = drawn(Screen::with_group(80, 20));
    screen.type_line("@bob, @carol: look. @nobody @bob");
    let text = "@bob, @carol: look. @nobody @bob".to_owned();
    let mentions = vec![BOB, CAROL];
    assert_eq!(screen.effects(), group_said(Saying::Text { text, reply_to: None, mentions }));
    screen.type_line("@all hello");
    let mentions = vec![crate::entry::EVERYBODY];
    let text = "@all hello".to_owned();
    assert_eq!(screen.effects(), group_said(Saying::Text { text, reply_to: None, mentions }));
}

#[test]
fn a_refused_change_says_which_and_why() {
    let mut screen = drawn(Screen::with_two(80, 20));
    let what = Saying::Edit { target: 1, revision: 0, text: "x".into() };
    screen.take(Input::Queued { to: pair(BOB), id: message(9), what });
    screen.hear(Event::Refused(Refused {
        conversation: pair(BOB).id,
        id: message(9),
        code: Code::TooLate,
        text: "the time is over".into(),
        server_time_ms: None,
    }));
    let frame = screen.draw();
    assert!(frame.contains("the edit was refused") && frame.contains("time is over"), "{frame}");
}

#[test]
fn who_has_read_a_message_is_listed() {
    let mut screen = drawn(Screen::with_group(80, 20));
    screen.type_line("/read-by");
    assert_eq!(screen.effects(), [Effect::Ask(Ask::ReadBy { conversation: GROUP, seq: 5 })]);
    screen.take(Input::Answered(Answer::Readers(vec![ME, BOB, CAROL])));
    let frame = screen.draw();
    assert!(frame.contains("Read by") && frame.contains("carol"), "{frame}");
    screen.key(KeyCode::Esc);
    assert!(screen.draw().contains("at the bridge"));
    let recalled = Entry { kind: kind::RECALL, target: Some(5), ..in_group(6, ME, "") };
    screen.hear(Event::Entry(recalled));
    screen.type_line("/edit x");
    assert!(screen.draw().contains("there is no message for that"));
}
