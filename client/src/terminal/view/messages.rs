//! The messages of the conversation on the screen, from the newest upwards.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};

use super::{Drawn, bold, dim, dimmed};
use crate::event::GapReason;
use crate::terminal::calendar;
use crate::terminal::model::{Conversation, Message, Model};
use crate::terminal::wrap::{cut, wrap};

/// Columns of the time, and of what stands below it.
const INDENT: usize = 6;
/// Columns of a name, at the most.
const NAME_COLUMNS_MAX: usize = 16;

/// Columns of a quoted text, at the most.
const QUOTE_COLUMNS_MAX: usize = 30;

struct Row {
    line: Line<'static>,
    /// The message whose last row it is.
    ends: Option<u64>,
}

impl Row {
    fn plain(line: Line<'static>) -> Self {
        Self { line, ends: None }
    }
}

/// Rows of a message.
pub(in crate::terminal) fn height(name: &str, text: &str, width: usize) -> usize {
    block(name, text, width).len()
}

fn block(name: &str, text: &str, width: usize) -> Vec<String> {
    let name = cut(name, NAME_COLUMNS_MAX);
    wrap(&format!("{name}: {text}"), width.saturating_sub(INDENT))
}

/// The rows of one message: its time, its name, its text.
fn rows(time: &str, name: &str, text: &str, width: usize, look: (Style, Style)) -> Vec<Row> {
    let (of_name, of_text) = look;
    let shown_name = cut(name, NAME_COLUMNS_MAX);
    let mut rows = Vec::new();
    for (n, line) in block(name, text, width).into_iter().enumerate() {
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

/// How far an own message got.
fn mark(conversation: &Conversation, seq: u64) -> &'static str {
    if seq <= conversation.peer_read {
        " ✓✓ read"
    } else if seq <= conversation.peer_delivered {
        " ✓✓"
    } else {
        " ✓"
    }
}

fn separator(text: &str, width: usize, style: Style) -> Row {
    let text = format!("── {text} ──");
    Row::plain(Line::styled(cut(&text, width), style))
}

/// The beginning of what is replied to.
fn quote(model: &Model, known: &Conversation, seq: u64) -> String {
    match known.messages.get(&seq) {
        Some(message) => {
            let text = cut(&message.text.replace('\n', " "), QUOTE_COLUMNS_MAX);
            format!("«{}: {text}»", cut(&model.name(message.sender), NAME_COLUMNS_MAX))
        }
        None => "«an earlier message»".to_owned(),
    }
}

fn message_rows(
    model: &Model,
    known: &Conversation,
    seq: u64,
    message: &Message,
    width: usize,
) -> Vec<Row> {
    let is_own = message.sender == model.me;
    let color = if is_own { Color::Cyan } else { Color::Green };
    let mut of_text = Style::new();
    if model.search.as_ref().is_some_and(|search| search.at == Some(seq)) {
        of_text = of_text.add_modifier(Modifier::REVERSED);
    }
    let mark = if is_own { mark(known, seq) } else { "" };
    let mut text = match message.reply_to.filter(|_| message.is_countable) {
        Some(to) => format!("{}\n{}{mark}", quote(model, known, to), message.text),
        None => format!("{}{mark}", message.text),
    };
    if message.is_recalled {
        text = "(recalled)".to_owned();
        of_text = dim();
    } else if message.is_edited {
        text.push_str(" (edited)");
    }
    if !message.reactions.is_empty() {
        let all = message.reactions.iter().map(|(emoji, count)| format!("{emoji} {count}"));
        text.push_str(&format!("\n[{}]", all.collect::<Vec<_>>().join("  ")));
    }
    let time = calendar::time(message.time_ms);
    let name = model.name(message.sender);
    rows(&time, &name, &text, width, (bold().fg(color), of_text))
}

/// What stands between a message and the one before it.
fn before(known: &Conversation, seq: u64, message: &Message, width: usize) -> Vec<Row> {
    let mut rows = Vec::new();
    let previous = known.messages.range(..seq).next_back();
    let after = previous.map_or(0, |(seq, _)| *seq);
    for (from, (to, reason)) in known.gaps.range(after..seq) {
        let why = match reason {
            GapReason::Retention => "are not kept any more",
            GapReason::NotAMember => "are not for you",
            GapReason::Skipped => "are not loaded",
        };
        rows.push(separator(&format!("{} messages {why}", to - from + 1), width, dim()));
    }
    let day = calendar::day(message.time_ms);
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
        match &pending.refused {
            None => {
                let text = format!("{} …", pending.text);
                all.extend(rows("", &name, &text, width, (dim(), dim())));
            }
            Some(why) => {
                let text = format!("{} ✗ not sent: {why}", pending.text);
                let red = Style::new().fg(Color::Red);
                all.extend(rows("", &name, &text, width, (red, red)));
            }
        }
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
    // From the bottom upwards, as far as needed.
    let mut upwards: Vec<Row> = unstored(model, known, width);
    upwards.reverse();
    let mut scroll = known.scroll;
    let mut is_complete = true;
    let mut carried = 0;
    for (seq, message) in known.messages.iter().rev() {
        let is_found = model.wanted.is_none_or(|wanted| *seq < wanted);
        if is_found && upwards.len() >= scroll.saturating_add(height) {
            is_complete = false;
            break;
        }
        if message.is_change {
            // It has no place of its own: it is seen with what stands before it.
            carried = carried.max(*seq);
            continue;
        }
        let mut rows = message_rows(model, known, *seq, message, width);
        if let Some(last) = rows.last_mut() {
            last.ends = Some(std::mem::take(&mut carried).max(*seq));
        }
        upwards.extend(rows.into_iter().rev());
        if model.wanted == Some(*seq) {
            scroll = upwards.len().saturating_sub(height / 2 + 1);
        }
        upwards.extend(before(known, *seq, message, width).into_iter().rev());
    }
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
    }
}
