//! The one table of commands and the one of keys: what they do, the help overlay and
//! docs/chat.md are made from them.

use super::action::{self, Action};

/// What a command line asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Direct,
    Block,
    Unblock,
    Find,
    /// Does something with a message.
    Act(Action),
    Help,
    Quit,
}

/// What a command takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    Nothing,
    Name,
    NameAndText,
    Text,
    Word,
}

#[derive(Debug)]
pub(super) struct Command {
    pub(super) word: &'static str,
    pub(super) arguments: &'static str,
    pub(super) takes: Takes,
    pub(super) verb: Verb,
    pub(super) what: &'static str,
}

pub(super) const COMMANDS: &[Command] = &[
    Command {
        word: "/dm",
        arguments: "NAME [TEXT]",
        takes: Takes::NameAndText,
        verb: Verb::Direct,
        what: "opens the conversation with NAME, and sends TEXT",
    },
    Command {
        word: "/block",
        arguments: "NAME",
        takes: Takes::Name,
        verb: Verb::Block,
        what: "no messages between you and NAME",
    },
    Command {
        word: "/unblock",
        arguments: "NAME",
        takes: Takes::Name,
        verb: Verb::Unblock,
        what: "lifts that",
    },
    Command {
        word: "/reply",
        arguments: "[TEXT]",
        takes: Takes::Text,
        verb: Verb::Act(Action::Reply),
        what: "replies to the selected message, or to the last one of others",
    },
    Command {
        word: "/edit",
        arguments: "[TEXT]",
        takes: Takes::Text,
        verb: Verb::Act(Action::Edit),
        what: "changes the selected message, or your last one",
    },
    Command {
        word: "/recall",
        arguments: "",
        takes: Takes::Nothing,
        verb: Verb::Act(Action::Recall),
        what: "removes the selected message, or your last one, for everybody",
    },
    Command {
        word: "/delete",
        arguments: "",
        takes: Takes::Nothing,
        verb: Verb::Act(Action::Delete),
        what: "removes the selected message, or the last one, for you alone",
    },
    Command {
        word: "/react",
        arguments: "EMOJI",
        takes: Takes::Word,
        verb: Verb::Act(Action::React),
        what: "reacts to the selected message, or to the last one of others; again: takes it back. \
               +1, -1, heart, laugh, party, eyes, ok, wave, sad stand for emoji",
    },
    Command {
        word: "/read-by",
        arguments: "",
        takes: Takes::Nothing,
        verb: Verb::Act(Action::ReadBy),
        what: "who has read the selected message, or your last one",
    },
    Command {
        word: "/find",
        arguments: "[TEXT]",
        takes: Takes::Text,
        verb: Verb::Find,
        what: "searches what is loaded of this conversation",
    },
    Command {
        word: "/help",
        arguments: "",
        takes: Takes::Nothing,
        verb: Verb::Help,
        what: "shows this",
    },
    Command {
        word: "/quit",
        arguments: "",
        takes: Takes::Nothing,
        verb: Verb::Quit,
        what: "leaves; what has no answer yet is sent at the next start",
    },
];

/// Keys, and what they do.
pub(super) const KEYS: &[(&str, &str)] = &[
    ("Enter", "sends, or carries a command out"),
    ("Alt-Enter, Ctrl-J", "begins a new line"),
    ("Left, Right, Home, End, Ctrl-A, Ctrl-E", "move the cursor"),
    ("Ctrl-Left, Ctrl-Right", "move it by words"),
    ("Up, Down", "move it by lines; at the edge they scroll"),
    ("Ctrl-W, Ctrl-U, Ctrl-K", "delete a word, to the line's start, to its end"),
    ("Tab", "completes a command or a name; again: the next one"),
    ("Alt-Up, Alt-Down", "the conversation above, below"),
    ("PageUp, PageDown", "scroll; at the top older messages are loaded"),
    ("Ctrl-Home, Ctrl-End", "to the first message that is loaded, to the newest"),
    ("Ctrl-F", "searches; Enter, Down: older, Up: newer, Esc: ends"),
    ("Esc", "leaves a reply, an edit; with nothing typed: selects a message"),
    ("with a selected message: Up, Down, Home, End", "select another one"),
    ("r, e, +, b", "reply, edit, react, who has read it"),
    ("x, d", "recall for everybody, delete for you; Enter confirms"),
    ("Enter", "shows the menu of what can be done"),
    ("F1", "shows this help; Esc closes it"),
    ("Ctrl-L", "draws the screen anew"),
    ("Ctrl-C, Ctrl-Q", "leave"),
    ("Mouse", "a click opens a conversation or the menu of a message, the wheel scrolls"),
];

/// What was typed, understood.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    Message(String),
    Command { verb: Verb, name: String, text: String },
}

/// Reads a line. `//` at its start stands for a `/` that is no command.
pub(super) fn parse(typed: &str) -> Result<Line, String> {
    if let Some(rest) = typed.strip_prefix("//") {
        return Ok(Line::Message(format!("/{rest}")));
    }
    if let Some(rest) = typed.strip_prefix('@')
        && let Some((name, text)) = rest.split_once(char::is_whitespace)
        && !name.is_empty()
    {
        let (name, text) = (name.to_owned(), text.trim().to_owned());
        return Ok(Line::Command { verb: Verb::Direct, name, text });
    }
    if !typed.starts_with('/') {
        return Ok(Line::Message(typed.to_owned()));
    }
    let (word, rest) = typed.split_once(char::is_whitespace).unwrap_or((typed, ""));
    let rest = rest.trim();
    let Some(command) = COMMANDS.iter().find(|command| command.word == word) else {
        return Err(unknown(word));
    };
    let usage = || format!("{} {}: {}", command.word, command.arguments, command.what);
    let (name, text) = match command.takes {
        Takes::Nothing if rest.is_empty() => ("", ""),
        Takes::Text => ("", rest),
        Takes::Name if !rest.is_empty() && !rest.contains(char::is_whitespace) => (rest, ""),
        Takes::Word if !rest.is_empty() && !rest.contains(char::is_whitespace) => ("", rest),
        Takes::NameAndText if !rest.is_empty() => {
            rest.split_once(char::is_whitespace).unwrap_or((rest, ""))
        }
        Takes::Nothing | Takes::Name | Takes::NameAndText | Takes::Word => return Err(usage()),
    };
    let name = name.trim_start_matches('@').to_owned();
    Ok(Line::Command { verb: command.verb, name, text: text.trim().to_owned() })
}

fn unknown(word: &str) -> String {
    let near = COMMANDS.iter().find(|command| {
        word.len() > 1 && (command.word.starts_with(word) || word.starts_with(command.word))
    });
    match near {
        Some(command) => format!("there is no {word}; did you mean {}?", command.word),
        None => format!("there is no {word}; /help tells what there is"),
    }
}

/// What the word before the cursor can become: commands at the start of a line, else names.
pub(super) fn completions<'a>(before: &str, names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let start = before.rfind(char::is_whitespace).map_or(0, |at| at + 1);
    let word = before.get(start..).unwrap_or_default();
    if start == 0 && word.starts_with('/') {
        let found = COMMANDS.iter().filter(|command| command.word.starts_with(word));
        return found.map(|command| format!("{} ", command.word)).collect();
    }
    if before.get(..start).is_some_and(|command| command.trim_end() == "/react") {
        let found = action::emoji_words().filter(|one| one.starts_with(word));
        return found.map(|one| format!("{} ", action::emoji(one))).collect();
    }
    let bare = word.trim_start_matches('@');
    let at = if word.starts_with('@') { "@" } else { "" };
    if word.is_empty() {
        return Vec::new();
    }
    let mut found: Vec<_> = names
        .filter(|name| name.starts_with(bare) && !name.contains(char::is_whitespace))
        .map(|name| format!("{at}{name} "))
        .collect();
    found.sort();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::{Line, Verb, completions, parse};

    #[test]
    fn lines_are_messages_or_commands() {
        assert_eq!(parse("hi there"), Ok(Line::Message("hi there".into())));
        assert_eq!(parse("//etc"), Ok(Line::Message("/etc".into())));
        let dm = |text: &str| {
            Ok(Line::Command { verb: Verb::Direct, name: "bob".into(), text: text.into() })
        };
        assert_eq!(parse("/dm bob"), dm(""));
        assert_eq!(parse("/dm @bob hello you"), dm("hello you"));
        assert_eq!(parse("@bob hello"), dm("hello"));
    }

    #[test]
    fn what_is_wrong_with_a_command_is_said() {
        assert!(parse("/dm").is_err_and(|why| why.contains("NAME")));
        assert!(parse("/block a b").is_err_and(|why| why.contains("/block NAME")));
        assert!(parse("/blok a").is_err_and(|why| why.contains("/help")));
        assert!(parse("/bl a").is_err_and(|why| why.contains("/block")));
        assert!(parse("/quit now").is_err());
    }

    #[test]
    fn words_are_completed() {
        let names = ["alice", "alan", "bob"];
        assert_eq!(completions("/un", names.into_iter()), ["/unblock "]);
        assert_eq!(completions("/dm al", names.into_iter()), ["alan ", "alice "]);
        assert_eq!(completions("hi @b", names.into_iter()), ["@bob "]);
        assert!(completions("hi ", names.into_iter()).is_empty());
    }
}
