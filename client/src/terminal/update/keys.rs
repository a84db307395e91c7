//! Keys.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::{Effect, picking, scroll, search, step, submit};
use crate::terminal::command;
use crate::terminal::model::{Completion, Composing, Model, Overlay, Search};
use crate::terminal::prompt::Entered;

/// Further than anything is scrolled.
const TO_THE_TOP: usize = usize::MAX / 2;

pub(super) fn insert(model: &mut Model, text: &str) {
    model.completion = None;
    if let Some(prompt) = &mut model.prompt {
        if !prompt.insert(text) {
            model.say("a password has at most 256 bytes");
        }
    } else if let Some(search) = &mut model.search {
        search.text.push_str(&crate::terminal::clean::line(text));
        search::look(model, None);
    } else if !model.composer.insert(text) {
        model.say("the message would be too long");
    }
}

pub(super) fn key(model: &mut Model, key: KeyEvent) -> Vec<Effect> {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    let alt = key.modifiers.contains(KeyModifiers::ALT);
    match key.code {
        KeyCode::Char('c' | 'q') if control => return vec![Effect::Quit],
        KeyCode::Char('l') if control => return vec![Effect::DrawAnew],
        KeyCode::F(1) => {
            let is_open = model.overlay.is_some();
            model.overlay = (!is_open).then_some(Overlay::Help { scroll: 0 });
            return Vec::new();
        }
        KeyCode::PageUp => return scroll(model, page(model), true),
        KeyCode::PageDown => return scroll(model, page(model), false),
        _ => {}
    }
    if model.prompt.is_some() {
        return prompt(model, key.code, control);
    }
    match model.overlay {
        Some(Overlay::Menu(_)) => return picking::menu_key(model, key.code),
        Some(_) => return overlay(model, key.code),
        None => {}
    }
    if model.search.is_some() {
        return searching(model, key.code, control);
    }
    if model.is_picking && !control && !alt {
        return picking::key(model, key.code);
    }
    if key.code == KeyCode::Tab {
        complete(model);
        return Vec::new();
    }
    model.completion = None;
    match key.code {
        KeyCode::Up if alt || control => step(model, false),
        KeyCode::Down if alt || control => step(model, true),
        KeyCode::Home if control => scroll(model, TO_THE_TOP, true),
        KeyCode::End if control => scroll(model, usize::MAX, false),
        KeyCode::Up if !model.composer.up() => scroll(model, 1, true),
        KeyCode::Down if !model.composer.down() => scroll(model, 1, false),
        KeyCode::Enter if !alt => submit(model),
        KeyCode::Char('f') if control => {
            model.search = Some(Search::default());
            Vec::new()
        }
        code => {
            edit(model, code, control, alt);
            Vec::new()
        }
    }
}

fn page(model: &Model) -> usize {
    model.drawn.rows.saturating_sub(1).max(1)
}

/// Keys while a password is asked for: nothing of it goes anywhere else.
fn prompt(model: &mut Model, code: KeyCode, control: bool) -> Vec<Effect> {
    let Some(mut prompt) = model.prompt.take() else {
        return Vec::new();
    };
    match code {
        KeyCode::Esc => return Vec::new(),
        KeyCode::Enter => match prompt.enter() {
            Entered::Next(next) => model.prompt = Some(next),
            Entered::Done(ask) => return vec![Effect::Ask(ask)],
            Entered::Wrong(why) => model.say(format!("{why}; /password begins anew")),
        },
        code => {
            match code {
                KeyCode::Char('u') if control => prompt.clear(),
                KeyCode::Backspace => prompt.backspace(),
                KeyCode::Char(c) if !control => {
                    prompt.insert(c.encode_utf8(&mut [0; 4]));
                }
                _ => {}
            }
            model.prompt = Some(prompt);
        }
    }
    Vec::new()
}

fn overlay(model: &mut Model, code: KeyCode) -> Vec<Effect> {
    if let (KeyCode::Char('n'), Some(Overlay::Sheet(sheet))) = (code, &mut model.overlay) {
        return sheet.more.take().map(Effect::Ask).into_iter().collect();
    }
    match code {
        KeyCode::Up => scroll(model, 1, true),
        KeyCode::Down => scroll(model, 1, false),
        KeyCode::Esc | KeyCode::Enter | KeyCode::Char('q') => {
            model.overlay = None;
            Vec::new()
        }
        _ => Vec::new(),
    }
}

fn searching(model: &mut Model, code: KeyCode, control: bool) -> Vec<Effect> {
    match code {
        KeyCode::Esc => model.search = None,
        KeyCode::Enter | KeyCode::Down => search::look(model, Some(false)),
        KeyCode::Up => search::look(model, Some(true)),
        KeyCode::Char('f') if control => search::look(model, Some(false)),
        KeyCode::Char(c) if !control => insert(model, c.encode_utf8(&mut [0; 4])),
        KeyCode::Backspace => {
            if let Some(search) = &mut model.search {
                search.text.pop();
                search.at = None;
            }
            search::look(model, None);
        }
        _ => {}
    }
    Vec::new()
}

fn edit(model: &mut Model, code: KeyCode, control: bool, alt: bool) {
    match code {
        // Alt-Enter; Ctrl-J is what some terminals make of it.
        KeyCode::Enter => insert(model, "\n"),
        KeyCode::Char('j') if control => insert(model, "\n"),
        KeyCode::Char('a') if control => model.composer.home(),
        KeyCode::Char('e') if control => model.composer.end(),
        KeyCode::Char('w') if control => model.composer.delete_word(),
        KeyCode::Char('u') if control => model.composer.delete_to_start(),
        KeyCode::Char('k') if control => model.composer.delete_to_end(),
        KeyCode::Char(c) if !control && !alt => insert(model, c.encode_utf8(&mut [0; 4])),
        KeyCode::Left if control => model.composer.word_left(),
        KeyCode::Right if control => model.composer.word_right(),
        KeyCode::Left => model.composer.left(),
        KeyCode::Right => model.composer.right(),
        KeyCode::Home => model.composer.home(),
        KeyCode::End => model.composer.end(),
        KeyCode::Backspace if alt => model.composer.delete_word(),
        KeyCode::Backspace => model.composer.backspace(),
        KeyCode::Delete => model.composer.delete(),
        KeyCode::Esc => escape(model),
        _ => {}
    }
}

/// Leaves what one is in: an edit, a reply, a command for a message; with nothing to leave,
/// selects a message.
fn escape(model: &mut Model) {
    model.notice = None;
    let is_edit = matches!(model.composing, Some(Composing::Edit { .. }));
    let was_busy = model.composing.take().is_some() || model.picked.is_some();
    if is_edit || model.picked.is_some() {
        model.composer.take();
    }
    picking::stop(model);
    if !was_busy && model.composer.text().is_empty() {
        picking::start(model);
    }
}

/// Completes the word before the cursor, or takes the next of what it can become.
fn complete(model: &mut Model) {
    if let Some(Completion { choices, at }) = &mut model.completion {
        let before = choices.get(*at).map_or(0, String::len);
        *at = (*at + 1) % choices.len().max(1);
        let next = choices.get(*at).cloned().unwrap_or_default();
        model.composer.replace_before(before, &next);
        return;
    }
    let before = model.composer.before();
    let word = before.rsplit(char::is_whitespace).next().unwrap_or_default().len();
    let choices = command::completions(before, model.people.uniques().map(|(_, name)| name));
    if let Some(first) = choices.first() {
        model.composer.replace_before(word, first);
        model.completion = Some(Completion { choices, at: 0 });
    }
}
