//! What is written to the terminal, byte by byte, with names and texts of enemies.

use std::io::Write;
use std::sync::Arc;

use parking_lot::Mutex;
use proptest::prelude::*;
use ratatui::backend::CrosstermBackend;
use ratatui::layout::Rect;
use ratatui::{TerminalOptions, Viewport};

use super::people::{contact, own};
use super::*;
use crate::logged::OwnChange;
use crate::request::{Contact, Device, Friendship};

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Takes our own sequences out: cursor places, colours and looks, the cursor shown or hidden.
/// What is left is text.
fn text_of(bytes: &[u8]) -> Result<String, String> {
    let mut text = String::new();
    let all = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    let mut parts = all.split('\u{1b}');
    text.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let rest = part.strip_prefix('[').ok_or_else(|| format!("an escape before {part:?}"))?;
        let end = rest
            .find(|c: char| !matches!(c, '0'..='9' | ';' | '?'))
            .ok_or_else(|| format!("no end: {rest:?}"))?;
        let (parameters, after) = rest.split_at(end);
        let is_ours = match after.chars().next() {
            // Blinking text is never ours; 38;5;N and 48;5;N are colours.
            Some('m') => {
                let colours = ["38;5;1", "38;5;2", "38;5;3", "38;5;6"];
                let plain = colours.iter().fold(parameters.to_owned(), |p, c| p.replace(c, ""));
                !plain.split(';').any(|one| one == "5" || one == "6")
            }
            Some('H') => true,
            Some('h' | 'l') => parameters == "?25",
            _ => false,
        };
        if !is_ours {
            return Err(format!("not ours: {rest:?}"));
        }
        text.extend(after.chars().skip(1));
    }
    Ok(text)
}

fn written(screen: &mut Screen) -> Vec<u8> {
    let out = Written::default();
    let area = Rect::new(0, 0, screen.size.0, screen.size.1);
    let mut terminal = Terminal::with_options(
        CrosstermBackend::new(out.clone()),
        TerminalOptions { viewport: Viewport::Fixed(area) },
    )
    .unwrap();
    let mut drawn = view::Drawn::default();
    terminal.draw(|frame| drawn = view::draw(&screen.model, frame)).unwrap();
    screen.take(Input::Drawn(drawn));
    let bytes = out.0.lock();
    bytes.clone()
}

/// Nothing but our own sequences and text that can be seen.
fn harmless(bytes: &[u8]) -> Result<(), TestCaseError> {
    let text = text_of(bytes).map_err(TestCaseError::fail)?;
    let bad = text.chars().find(|c| {
        c.is_control()
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200b}'..='\u{200f}'
                | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{61c}' | '\u{e0000}'..='\u{e0fff}')
    });
    prop_assert_eq!(bad, None);
    Ok(())
}

fn hostile() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        3 => Just("\u{1b}[5;31m".to_owned()),
        2 => Just("\u{1b}]0;title\u{7}".to_owned()),
        2 => Just("\u{1b}[6n\u{9b}5m\u{90}q\u{9c}".to_owned()),
        2 => Just("\u{202e}\u{2066}\u{200f}\u{61c}".to_owned()),
        2 => Just("\u{200b}\u{200d}\u{feff}\u{e0041}\u{fe0f}".to_owned()),
        2 => Just("\r\n\u{2028}\u{85}\u{8}\u{7f}\0".to_owned()),
        1 => Just(format!("z{}", "\u{335}".repeat(40))),
        1 => Just("👨\u{200d}👩\u{200d}👧 👍\u{1f3fd} 你好".to_owned()),
        4 => "\\PC{0,12}",
        4 => proptest::collection::vec(any::<char>(), 0..12)
            .prop_map(|chars| chars.into_iter().collect()),
    ];
    proptest::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn names_and_texts_of_enemies_write_no_sequences(
        name in hostile(), text in hostile(), reason in hostile(), pasted in hostile(),
        columns in 1_u16..100, rows in 1_u16..30,
    ) {
        let mut screen = Screen::with_two(columns, rows);
        screen.take(Input::Names(vec![user_found(BOB, &name)]));
        screen.hear(Event::Entry(entry(BOB, 5, BOB, &text)));
        screen.take(Input::Queued { to: pair(BOB), id: message(9), what: Saying::text(text) });
        screen.take(Input::Terminal(TerminalEvent::Paste(pasted)));
        let target = Some(5);
        let reply = Entry { target, ..entry(BOB, 6, ME, "well") };
        screen.hear(Event::Entry(reply));
        let react = Entry { kind: crate::entry::kind::REACT, target, ..entry(BOB, 7, BOB, &reason) };
        screen.hear(Event::Entry(react));
        if columns % 2 == 0 {
            screen.key(KeyCode::Esc);
            screen.key(KeyCode::Up);
            screen.key(if rows % 2 == 0 { KeyCode::Enter } else { KeyCode::Char('r') });
        }
        screen.hear(Event::OutboxUnavailable { why: reason.clone() });
        screen.hear(Event::Offline {
            why: crate::event::OfflineReason::Lost(reason),
            retry_in: None,
        });
        let bytes = written(&mut screen);
        harmless(&bytes)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn names_of_groups_and_what_happens_in_them_write_no_sequences(
        title in hostile(), nickname in hostile(), nick_remark in hostile(), text in hostile(),
        columns in 40_u16..100, rows in 8_u16..30,
    ) {
        let mut screen = Screen::with_group(columns, rows);
        let nick = UserFound { nickname, ..user_found(CAROL, "carol") };
        screen.take(Input::Names(vec![nick]));
        let last = happened(6, CAROL, wire::event::What::ProfileChanged(wire::ProfileChanged {
            profile: Some(wire::GroupProfile { name: title.clone(), ..Default::default() }),
        }));
        let summaries = vec![group_summary(&title, Role::Admin, last.clone())];
        screen.take(Input::Listed(Summaries { summaries, ..Summaries::default() }));
        screen.hear(Event::Entry(last));
        screen.hear(Event::Entry(in_group(7, CAROL, &text)));
        screen.hear(Event::Typing { conversation: GROUP, user: CAROL, typing: true });
        let asking = Contact {
            text: text.clone(),
            remark: nick_remark.clone(),
            ..contact(BOB, "bob", Friendship::Invited)
        };
        screen.hear(own(OwnChange::Contact(asking)));
        screen.hear(own(OwnChange::JoinAsked {
            conversation: GROUP,
            user: UserFound { nickname: nick_remark, ..user_found(UserId([9; 16]), "dave") },
            text: text.clone(),
            closed: false,
        }));
        match rows % 5 {
            0 => screen.type_line("/contacts"),
            1 => screen.take(Input::Answered(Answer::Devices(vec![Device {
                device: crate::id::DeviceId([1; 16]),
                label: text,
                created_ms: NOW_MS,
                seen_ms: NOW_MS,
                own: false,
            }]))),
            2 => {
                screen.key(KeyCode::Esc);
                screen.key(KeyCode::Enter);
            }
            3 => screen.hear(own(OwnChange::DeviceAdded {
                device: crate::id::DeviceId([1; 16]),
                label: text,
            })),
            _ => {}
        }
        if rows % 7 == 0 {
            screen.take(Input::Answered(Answer::Readers(vec![BOB, CAROL])));
        }
        harmless(&written(&mut screen))?;
    }
}
