//! What is done with messages: written, replied to, edited, recalled, deleted, reacted to.

use super::{Ask, Effect, Saying};
use crate::draft::{MENTIONS_MAX, REACTION_BYTES_MAX};
use crate::entry::EVERYBODY;
use crate::id::UserId;
use crate::terminal::action::{Action, emoji, looks_after};
use crate::terminal::log::Row;
use crate::terminal::model::{Composing, Model};

/// What stands for all members in a text.
const EVERYBODY_WORDS: [&str; 2] = ["all", "everybody"];

/// Sends what was typed: as a message, as a reply, or as the edit of a message.
pub(super) fn say(model: &mut Model, text: String) -> Result<Vec<Effect>, String> {
    let composing = model.composing.take();
    let mentions = mentions(model, &text);
    let Some(known) = model.on_screen_mut() else {
        return Err("to whom? /dm NAME opens a conversation".to_owned());
    };
    known.scroll = 0;
    known.new_from = None;
    let to = known.to;
    let what = match composing {
        Some(Composing::Edit { seq, revision }) => Saying::Edit { target: seq, revision, text },
        Some(Composing::Reply { seq }) => Saying::Text { text, reply_to: Some(seq), mentions },
        None => Saying::Text { text, reply_to: None, mentions },
    };
    Ok(vec![Effect::Send { to, what }])
}

/// Who is mentioned: `@` and a name that is known, once each.
fn mentions(model: &Model, text: &str) -> Vec<UserId> {
    let mut found: Vec<UserId> = Vec::new();
    let may_all = model.on_screen().is_some_and(looks_after);
    for word in text.split_whitespace().filter_map(|word| word.strip_prefix('@')) {
        let name = word.trim_end_matches(|c: char| !c.is_alphanumeric());
        let user = if may_all && EVERYBODY_WORDS.contains(&name) {
            Some(EVERYBODY)
        } else {
            // A name may end in one of the characters that end a word.
            let people = &model.people;
            people.by_unique(word).or_else(|| people.by_unique(name))
        };
        if let Some(user) = user.filter(|user| !found.contains(user) && found.len() < MENTIONS_MAX)
        {
            found.push(user);
        }
    }
    found
}

/// The message that an action is about: the one that is selected, else the newest that fits.
fn target(model: &Model, action: Action) -> Result<(u64, &Row), String> {
    let known = model.on_screen().ok_or("no conversation is open")?;
    let (_, label) = action.label();
    if let Some(seq) = model.picked {
        let row = known.log.get(seq).ok_or("that message is not loaded")?;
        let fits = action.fits(model, known, row);
        return if fits { Ok((seq, row)) } else { Err(format!("{label}: not this message")) };
    }
    // Of others for what answers somebody, else one's own.
    let is_answer = matches!(action, Action::Reply | Action::React | Action::Quick(_));
    let mut newest = known.log.shown().rev().filter(|(_, row)| {
        (action == Action::Delete || (row.sender != model.me) == is_answer)
            && action.fits(model, known, row)
    });
    newest.next().ok_or_else(|| format!("{label}: there is no message for that; Esc selects one"))
}

/// Carries an action out, on the selected message or on the newest that fits.
pub(super) fn act(model: &mut Model, action: Action, text: &str) -> Result<Vec<Effect>, String> {
    let (seq, row) = target(model, action)?;
    let (revision, before) = (row.revision, row.text.clone());
    let known = model.on_screen().ok_or("no conversation is open")?;
    let (to, conversation) = (known.to, known.to.id);
    let mut effects = Vec::new();
    match action {
        Action::Reply if text.is_empty() => model.composing = Some(Composing::Reply { seq }),
        Action::Reply => {
            model.composing = Some(Composing::Reply { seq });
            effects = say(model, text.to_owned())?;
        }
        Action::Edit if text.is_empty() => {
            model.composing = Some(Composing::Edit { seq, revision });
            model.composer.set(&before);
        }
        Action::Edit => {
            let what = Saying::Edit { target: seq, revision, text: text.to_owned() };
            effects.push(Effect::Send { to, what });
        }
        Action::React => effects.push(react(model, seq, text)?),
        Action::Quick(emoji) => effects.push(react(model, seq, emoji)?),
        Action::ReadBy => effects.push(Effect::Ask(Ask::ReadBy { conversation, seq })),
        Action::Recall => {
            effects.push(Effect::Send { to, what: Saying::Recall { target: seq } });
        }
        Action::Delete => effects.push(Effect::Ask(Ask::Hide { conversation, seq })),
    }
    (model.picked, model.is_picking) = (None, false);
    Ok(effects)
}

/// Gives a reaction, or takes it back if it is the user's already.
fn react(model: &Model, target: u64, word: &str) -> Result<Effect, String> {
    let emoji = emoji(word);
    if emoji.is_empty() || emoji.contains(char::is_whitespace) || emoji.len() > REACTION_BYTES_MAX {
        return Err(format!("/react EMOJI: one of at most {REACTION_BYTES_MAX} bytes"));
    }
    let known = model.on_screen().ok_or("no conversation is open")?;
    // As it was given, which may be more than what is shown of it.
    let given = known.log.own_reaction(target, emoji);
    let is_given = given.is_none();
    let emoji = given.unwrap_or_else(|| emoji.to_owned());
    Ok(Effect::Send { to: known.to, what: Saying::React { target, emoji, is_given } })
}
