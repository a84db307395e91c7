//! The messages of the conversation on the screen, from the newest upwards.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};

use super::{Drawn, bold, dim, dimmed};
use crate::event::GapReason;
use crate::terminal::calendar;
use crate::terminal::happened::Happened;
use crate::terminal::log::{Form, Row as Entry};
use crate::terminal::model::{Conversation, Model};
use crate::terminal::wrap::{cut, wrap};

/// Columns of the time, and of what stands below it.
const INDENT: usize = 6;
/// Columns by which a selected message is marked.
const EDGE: u16 = 5;
/// Columns of a name, at the most.
const NAME_COLUMNS_MAX: usize = 16;

/// Columns of a quoted text, at the most.
const QUOTE_COLUMNS_MAX: usize = 30;

struct Row {
    line: Line<'static>,
    /// The entry that it belongs to.
    of: Option<u64>,
    /// The entry whose last row it is, or the one after it that is not shown.
    ends: Option<u64>,
}

impl Row {
    fn plain(line: Line<'static>) -> Self {
        Self { line, of: None, ends: None }
    }
}

/// Rows of an entry.
pub(in crate::terminal) fn height(
    model: &Model,
    known: &Conversation,
    seq: u64,
    width: usize,
) -> usize {
    let entry = known.log.get(seq).filter(|entry| entry.is_shown());
    entry.map_or(0, |entry| entry_rows(model, known, seq, entry, width).len())
}

/// The rows of one message: its time, its name if it has one, its text.
fn rows(time: &str, name: &str, text: &str, width: usize, look: (Style, Style)) -> Vec<Row> {
    let (of_name, of_text) = look;
    let shown_name = cut(name, NAME_COLUMNS_MAX);
    let mut rows = Vec::new();
    let colon = if name.is_empty() { "" } else { ": " };
    let lines = wrap(&format!("{shown_name}{colon}{text}"), width.saturating_sub(INDENT));
    for (n, line) in lines.into_iter().enumerate() {
        let mut spans = Vec::new();
        if n == 0 {
            spans.push(Span::styled(format!("{time:<INDENT$}"), dim()));
        } else {
            spans.push(Span::raw(" ".repeat(INDENT)));
        }
        match line.strip_prefix(shown_name.as_str()).filter(|_| n == 0) {
            Some(after) => {
                let after = after.to_owned();
                spans.push(Span::styled(shown_name.clone(), of_name));
                spans.push(Span::styled(after, of_text));
            }
            None => spans.push(Span::styled(line, of_text)),
        }
        rows.push(Row::plain(Line::from(spans)));
    }
    rows
}

/// How far an own message got: in a group, how many have read it.
fn mark(known: &Conversation, seq: u64) -> String {
    match known.reached(seq) {
        (_, 1..) if known.to.peer.is_some() => " ✓✓ read".to_owned(),
        (_, readers @ 1..) => format!(" ✓✓ read by {readers}"),
        (1.., 0) => " ✓✓".to_owned(),
        (0, 0) => " ✓".to_owned(),
    }
}

fn separator(text: &str, width: usize, style: Style) -> Row {
    let text = format!("── {text} ──");
    Row::plain(Line::styled(cut(&text, width), style))
}

/// The beginning of what is replied to.
pub(super) fn quote(model: &Model, known: &Conversation, seq: u64) -> String {
    let Some(entry) = known.log.get(seq) else {
        return "«an earlier message»".to_owned();
    };
    let name = cut(&model.name(entry.sender), NAME_COLUMNS_MAX);
    if entry.is_recalled {
        return format!("«{name}: (recalled)»");
    }
    if !entry.is_shown() {
        return "«a message that you deleted»".to_owned();
    }
    let text = cut(&entry.text.replace('\n', " "), QUOTE_COLUMNS_MAX);
    format!("«{name}: {text}»")
}

/// What happened to the group, in words.
fn happened(model: &Model, known: &Conversation, seq: u64, entry: &Entry, it: &Happened) -> String {
    let before = known.log.rows().range(..seq).rev().find_map(|(_, row)| match &row.form {
        Form::Happened(earlier) => earlier.profile(),
        _ => None,
    });
    it.line(entry.sender, before, &|user| model.name(user))
}

fn reactions(entry: &Entry) -> String {
    let all = entry.reactions.iter().map(|reaction| {
        let own = if reaction.own { "*" } else { "" };
        format!("{} {}{own}", reaction.emoji, reaction.count)
    });
    format!("[{}]", all.collect::<Vec<_>>().join("  "))
}

fn entry_rows(
    model: &Model,
    known: &Conversation,
    seq: u64,
    entry: &Entry,
    width: usize,
) -> Vec<Row> {
    let time = calendar::time(entry.time_ms);
    let mut rows = match &entry.form {
        Form::Happened(it) => {
            let text = happened(model, known, seq, entry, it);
            rows(&time, "", &format!("* {text}"), width, (dim(), dim()))
        }
        Form::System => rows(&time, "service", &entry.text, width, (bold(), bold())),
        Form::Said | Form::Unseen => said(model, known, seq, entry, width),
    };
    for row in &mut rows {
        row.of = Some(seq);
    }
    rows
}

fn said(model: &Model, known: &Conversation, seq: u64, entry: &Entry, width: usize) -> Vec<Row> {
    let is_own = entry.sender == model.me;
    let color = if is_own { Color::Cyan } else { Color::Green };
    let mut of_text = Style::new();
    if model.search.as_ref().is_some_and(|search| search.at == Some(seq)) {
        of_text = of_text.add_modifier(Modifier::REVERSED);
    }
    let mark = if is_own { mark(known, seq) } else { String::new() };
    let mut text = if entry.is_recalled {
        of_text = dim();
        format!("(recalled){mark}")
    } else {
        let edited = if entry.is_edited() { " (edited)" } else { "" };
        format!("{}{edited}{mark}", entry.text)
    };
    if let Some(to) = entry.reply_to.filter(|_| !entry.is_recalled) {
        text = format!("{}\n{text}", quote(model, known, to));
    }
    if !entry.reactions.is_empty() {
        text = format!("{text}\n{}", reactions(entry));
    }
    let name = model.name(entry.sender);
    let mut of_name = bold().fg(color);
    if entry.is_mention && !is_own {
        of_name = of_name.add_modifier(Modifier::REVERSED);
    }
    rows(&calendar::time(entry.time_ms), &name, &text, width, (of_name, of_text))
}

/// What stands between an entry and the one before it that is shown.
fn before(known: &Conversation, seq: u64, entry: &Entry, width: usize) -> Vec<Row> {
    let mut rows = Vec::new();
    let previous = known.log.rows().range(..seq).rev().find(|(_, row)| row.is_shown());
    let after = previous.map_or(0, |(seq, _)| *seq);
    for (from, (to, reason)) in known.gaps.range(after..seq) {
        let why = match reason {
            GapReason::Retention => "are not kept any more",
            GapReason::NotAMember => "are not for you",
            GapReason::Skipped => "are not loaded",
        };
        rows.push(separator(&format!("{} messages {why}", to - from + 1), width, dim()));
    }
    let day = calendar::day(entry.time_ms);
    if previous.is_none_or(|(_, older)| calendar::day(older.time_ms) != day) {
        rows.push(separator(&calendar::date(day), width, dim()));
    }
    let is_first_new = known.new_from.is_some_and(|new| new <= seq && after < new);
    if is_first_new {
        rows.push(separator("new messages", width, bold().fg(Color::Yellow)));
    }
    rows
}

/// What is not stored: own messages without an answer, previews.
fn unstored(model: &Model, known: &Conversation, width: usize) -> Vec<Row> {
    let mut all = Vec::new();
    for preview in &known.previews {
        let name = model.name(preview.sender);
        let text = format!("{} (not stored yet)", preview.text);
        all.extend(rows("", &name, &text, width, (dim(), dim())));
    }
    for pending in &known.pending {
        let name = model.name(model.me);
        let text = match pending.reply_to {
            Some(to) => format!("{}\n{}", quote(model, known, to), pending.text),
            None => pending.text.clone(),
        };
        let (text, style) = match &pending.refused {
            None => (format!("{text} …"), dim()),
            Some(why) => (format!("{text} ✗ not sent: {why}"), Style::new().fg(Color::Red)),
        };
        all.extend(rows("", &name, &text, width, (style, style)));
    }
    all
}

pub(super) fn draw(model: &Model, frame: &mut Frame<'_>, area: Rect, drawn: &mut Drawn) {
    let Some(known) = model.on_screen() else {
        let hint = dimmed("/dm NAME opens a conversation; F1 shows help");
        frame.buffer_mut().set_line(area.x, area.y, &hint, area.width);
        return;
    };
    let (width, height) = (usize::from(area.width), usize::from(area.height));
    let (mut upwards, mut scroll, is_complete) = upwards(model, known, width, height);
    if is_complete {
        let top = if known.is_loading {
            "loading earlier messages"
        } else if known.has_start || known.oldest().is_none_or(|oldest| oldest <= 1) {
            "the conversation begins here"
        } else {
            "earlier messages are not loaded"
        };
        upwards.push(separator(top, width, dim()));
        scroll = scroll.min(upwards.len().saturating_sub(height));
    }
    drawn.conversation = Some(known.to.id);
    drawn.scroll = scroll;
    drawn.is_top = is_complete && upwards.len() <= scroll + height;
    let visible: Vec<_> = upwards.iter().skip(scroll).take(height).collect();
    drawn.highest = visible.iter().find_map(|row| row.ends);
    let first = area.bottom().saturating_sub(u16::try_from(visible.len()).unwrap_or(area.height));
    for (row, y) in visible.iter().rev().zip(first..) {
        frame.buffer_mut().set_line(area.x, y, &row.line, area.width);
        let place = Rect { y, height: 1, ..area };
        if let Some(seq) = row.of {
            drawn.messages.push((place, seq));
            if model.picked == Some(seq) {
                let edge = Rect { width: place.width.min(EDGE), ..place };
                frame.buffer_mut().set_style(edge, bold().add_modifier(Modifier::REVERSED));
            }
        }
    }
}

/// Rows from the bottom upwards, as far as needed; how many of them are below the screen; whether
/// they are all that is loaded.
fn upwards(
    model: &Model,
    known: &Conversation,
    width: usize,
    height: usize,
) -> (Vec<Row>, usize, bool) {
    let mut upwards: Vec<Row> = unstored(model, known, width);
    upwards.reverse();
    let mut scroll = known.scroll;
    let mut carried = 0;
    for (seq, entry) in known.log.rows().iter().rev() {
        let is_found = model.wanted.is_none_or(|wanted| *seq < wanted);
        if is_found && upwards.len() >= scroll.saturating_add(height) {
            return (upwards, scroll, false);
        }
        if !entry.is_shown() {
            // It has no place of its own: it is seen with what stands before it.
            carried = carried.max(*seq);
            continue;
        }
        let mut rows = entry_rows(model, known, *seq, entry, width);
        if let Some(last) = rows.last_mut() {
            last.ends = Some(std::mem::take(&mut carried).max(*seq));
        }
        upwards.extend(rows.into_iter().rev());
        if model.wanted == Some(*seq) {
            scroll = upwards.len().saturating_sub(height / 2 + 1);
        }
        upwards.extend(before(known, *seq, entry, width).into_iter().rev());
    }
    (upwards, scroll, true)
}
