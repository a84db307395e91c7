use super::*;
use crate::id::MessageId;

const HERE: ConversationId = ConversationId([1; 16]);
const ME: UserId = UserId([2; 16]);
const BOB: UserId = UserId([3; 16]);
const EVE: UserId = UserId([4; 16]);

fn entry(seq: u64, kind: u16, sender: UserId, target: Option<u64>, body: &str) -> Entry {
    Entry {
        conversation: HERE,
        seq,
        id: MessageId([9; 16]),
        sender,
        time_ms: seq,
        count: seq,
        kind,
        body: Ok(Bytes::from(body.to_owned())),
        target,
        mentions: Vec::new(),
        state: EntryState::default(),
    }
}

fn text(seq: u64, body: &str) -> Entry {
    entry(seq, kind::TEXT, BOB, None, body)
}

/// As the server gives it once the changes up to `changed` are applied.
fn at(mut entry: Entry, changed: u64, reactions: &[(&str, u32, bool)]) -> Entry {
    entry.state.changed = changed;
    entry.state.reactions = reactions
        .iter()
        .map(|(emoji, count, own)| Reaction {
            emoji: (*emoji).to_owned(),
            count: *count,
            own: *own,
        })
        .collect();
    entry
}

fn timeline(entries: impl IntoIterator<Item = Entry>) -> Timeline {
    let mut timeline = Timeline::new(ME, HERE, 100);
    for entry in entries {
        timeline.entry(entry);
    }
    timeline
}

fn reactions(timeline: &Timeline, seq: u64) -> Vec<(&str, u32, bool)> {
    let shown = timeline.get(seq).into_iter().flat_map(|entry| &entry.state.reactions);
    shown.map(|r| (r.emoji.as_str(), r.count, r.own)).collect()
}

#[test]
fn an_edit_and_a_recall_change_what_is_shown_and_are_not_shown_themselves() {
    let mut t = timeline([text(1, "teh"), entry(2, kind::EDIT, BOB, Some(1), "the")]);
    assert_eq!(t.get(1).and_then(Entry::text), Some("the"));
    assert_eq!(t.get(1).map(|entry| entry.state.revision), Some(1));
    assert_eq!(t.iter().count(), 1);
    // Heard a second time.
    assert_eq!(t.entry(entry(2, kind::EDIT, BOB, Some(1), "the")), Redraw::Nothing);
    assert_eq!(t.entry(entry(3, kind::RECALL, BOB, Some(1), "")), Redraw::Changed(1));
    assert_eq!(t.entry(entry(4, kind::EDIT, BOB, Some(1), "again")), Redraw::Nothing);
    assert!(t.get(1).is_some_and(|entry| entry.state.recalled && entry.text() == Some("")));
}

#[test]
fn changes_that_come_before_their_entry_are_applied_once_it_is_there() {
    let mut t = timeline([
        entry(7, kind::REACT, EVE, Some(3), "+"),
        entry(5, kind::EDIT, BOB, Some(3), "five"),
        entry(8, kind::EDIT, BOB, Some(3), "eight"),
    ]);
    assert!(t.is_empty());
    // It was read when the change at 5 was in it already.
    assert_eq!(t.entry(at(text(3, "five"), 5, &[])), Redraw::New(3));
    assert_eq!(t.get(3).and_then(Entry::text), Some("eight"));
    assert_eq!(t.get(3).map(|entry| entry.state.revision), Some(1));
    assert_eq!(reactions(&t, 3), [("+", 1, false)]);
}

#[test]
fn a_reaction_counts_once_when_history_and_live_overlap() {
    // History has seen the reactions up to 5, the stream brings 4 to 7.
    let mut t = timeline([at(text(1, "x"), 5, &[("+", 2, true)])]);
    t.entry(entry(4, kind::REACT, BOB, Some(1), "+"));
    t.entry(entry(5, kind::REACT, ME, Some(1), "+"));
    assert_eq!(reactions(&t, 1), [("+", 2, true)]);
    t.entry(entry(6, kind::REACT, EVE, Some(1), "+"));
    t.entry(entry(7, kind::REACT, EVE, Some(1), "+"));
    assert_eq!(reactions(&t, 1), [("+", 3, true)]);
    t.entry(entry(8, kind::REACT, ME, Some(1), "+"));
    t.entry(entry(9, kind::UNREACT, ME, Some(1), "+"));
    assert_eq!(reactions(&t, 1), [("+", 2, false)]);
    // A page read meanwhile knows less than what was heard; one read later counts.
    assert_eq!(t.entry(at(text(1, "x"), 8, &[("+", 3, true)])), Redraw::Nothing);
    assert_eq!(t.entry(at(text(1, "x"), 12, &[("-", 1, false)])), Redraw::Changed(1));
    assert_eq!(reactions(&t, 1), [("-", 1, false)]);
    t.entry(entry(13, kind::UNREACT, BOB, Some(1), "-"));
    assert_eq!(reactions(&t, 1), []);
}

#[test]
fn a_reply_quotes_what_it_replies_to_as_it_is_now() {
    let mut t = timeline([text(1, "what?"), entry(2, kind::TEXT, ME, Some(1), "that")]);
    let quoted = |t: &Timeline| t.get(2).and_then(|entry| t.quoted(entry));
    let message = |excerpt: &str| Quoted::Message {
        sender: BOB,
        kind: kind::TEXT,
        excerpt: Some(excerpt.to_owned()),
    };
    assert_eq!(quoted(&t), Some(message("what?")));
    t.entry(entry(3, kind::EDIT, BOB, Some(1), &"é".repeat(300)));
    assert_eq!(quoted(&t), Some(message(&"é".repeat(100))));
    t.entry(entry(4, kind::RECALL, BOB, Some(1), ""));
    assert_eq!(quoted(&t), Some(Quoted::Recalled));
    t.hide(&[1]);
    assert_eq!(quoted(&t), Some(Quoted::Hidden));
    assert_eq!(t.quoted(&text(9, "no reply")), None);
    assert_eq!(t.quoted(&entry(9, kind::TEXT, ME, Some(8), "x")), Some(Quoted::NotLoaded));
}

#[test]
fn hidden_entries_are_left_out_and_stay_hidden() {
    let mut t = timeline([text(1, "a"), text(2, "b"), text(3, "c")]);
    assert_eq!(t.hide(&[2, 77]), Redraw::Changed(2));
    t.entry(entry(4, kind::EDIT, BOB, Some(2), "seen?"));
    t.entry(at(text(2, "seen?"), 9, &[]));
    assert!(t.iter().map(|entry| entry.seq).eq([1, 3]));
    assert_eq!(t.get(2).and_then(Entry::text), Some(""));
}

#[test]
fn a_full_timeline_drops_the_oldest_for_the_newest_and_never_the_other_way() {
    let mut t = Timeline::new(ME, HERE, 3);
    for seq in 4..=8 {
        t.entry(text(seq, "x"));
    }
    assert!(t.iter().map(|entry| entry.seq).eq([6, 7, 8]));
    assert_eq!(t.oldest(), Some(6));
    let page = Page { entries: vec![text(4, "x"), text(5, "x")], ..Page::default() };
    assert!(!t.page(&page));
    assert_eq!(t.len(), 3);
    for seq in 1..=2 * EARLY_MAX as u64 {
        t.entry(entry(100 + seq, kind::REACT, BOB, Some(1), "+"));
    }
    assert_eq!(t.early.len(), EARLY_MAX);
}

#[test]
fn after_a_skipped_part_or_another_history_nothing_stale_is_left() {
    let gap = |to, reason| Event::Gap { conversation: HERE, from: 2, to, reason };
    let mut t = timeline([text(1, "a")]);
    assert_eq!(t.take(&gap(4, GapReason::Retention)), Redraw::Nothing);
    assert_eq!(t.take(&gap(50, GapReason::Skipped)), Redraw::All);
    assert!(t.is_empty());

    let mut t = timeline([text(1, "a"), text(2, "b"), text(3, "c")]);
    t.take(&Event::Reset { conversation: HERE, to: 2 });
    assert!(t.iter().map(|entry| entry.seq).eq([1, 2]));
    t.entry(entry(3, kind::EDIT, BOB, Some(1), "of another history"));
    t.take(&Event::Reset { conversation: HERE, to: 2 });
    assert!(t.is_empty());
}

#[test]
fn what_is_forgotten_is_read_again_from_history() {
    let mut t = timeline((1..=5).map(|seq| text(seq, "x")));
    t.forget_before(4);
    assert_eq!(t.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [4, 5]);
    assert_eq!(t.oldest(), Some(4));
    t.page(&Page { entries: vec![at(text(3, "y"), 0, &[])], ..Page::default() });
    assert_eq!(t.get(3).and_then(Entry::text), Some("y"));
}
