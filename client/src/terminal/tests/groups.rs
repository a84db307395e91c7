//! Groups: what happened in them, who has read what.

use super::*;
use crate::entry::kind;
use crate::event::Receipt;

#[test]
fn what_happened_is_told_in_words_once_names_are_known() {
    let mut screen = Screen::with_group(80, 16);
    let frame = screen.draw();
    for line in [
        "* alice made the group \"walkers\" with bob",
        "* bob added carol",
        "* alice muted everyone",
        "«carol: where do we meet?»",
    ] {
        assert!(frame.contains(line), "no {line} in\n{frame}");
    }
    let dave = UserId([9; 16]);
    screen.effects();
    let left = wire::MembersLeft { users: vec![dave.to_bytes()] };
    screen.hear(Event::Entry(happened(6, dave, wire::event::What::MembersLeft(left))));
    let effects = screen.effects();
    assert!(effects.contains(&Effect::Names(vec![dave])), "{effects:?}");
    assert!(effects.contains(&Effect::Group(GROUP)), "{effects:?}");
    screen.take(Input::Names(vec![user_found(dave, "dave")]));
    assert!(screen.draw().contains("* dave left"));
}

#[test]
fn in_a_group_readers_are_counted() {
    let mut screen = Screen::with_group(80, 16);
    assert!(screen.draw().contains("at the bridge ✓ "));
    let receipt = |user, read| Receipt { user, delivered: 5, read };
    let members = vec![receipt(BOB, 4), receipt(CAROL, 5)];
    screen.hear(Event::Receipts { conversation: GROUP, members });
    assert!(screen.draw().contains("at the bridge ✓✓ read by 1"));
    let members = vec![receipt(BOB, 5)];
    screen.hear(Event::Receipts { conversation: GROUP, members });
    assert!(screen.draw().contains("at the bridge ✓✓ read by 2"));
}

#[test]
fn mentions_have_a_badge_until_they_are_read() {
    let mut screen = Screen::with_two(80, 16);
    let last = in_group(5, CAROL, "nobody?");
    let summaries = vec![group_summary("walkers", Role::Member, last)];
    screen.take(Input::Listed(Summaries { summaries, ..Summaries::default() }));
    screen.draw();
    let mentions = vec![crate::entry::EVERYBODY];
    screen.hear(Event::Entry(Entry { mentions, ..in_group(6, BOB, "@all look") }));
    assert!(screen.draw().contains("@ (1)"));
    screen.press(KeyCode::Up, KeyModifiers::ALT);
    assert_eq!(screen.model.selected, Some(GROUP));
    screen.draw();
    assert!(!screen.draw().contains("@ (1)"));
}

#[test]
fn what_is_recalled_or_hidden_is_quoted_as_such() {
    let mut screen = Screen::with_group(80, 20);
    let recall = Entry { kind: kind::RECALL, target: Some(3), ..in_group(6, CAROL, "") };
    screen.hear(Event::Entry(recall));
    let frame = screen.draw();
    assert!(frame.contains("«carol: (recalled)»"), "{frame}");
    assert!(!frame.contains("where do we meet?"), "{frame}");
    let change = crate::logged::OwnChange::EntriesHidden { conversation: GROUP, seqs: vec![3] };
    screen.hear(people::own(change));
    let frame = screen.draw();
    assert!(frame.contains("«carol: (recalled)»"), "{frame}");
    assert!(!frame.contains("carol: (recalled)\n"), "{frame}");
    assert!(!frame.contains("│09:53"), "{frame}");
}
