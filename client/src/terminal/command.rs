//! The one table of commands and the one of keys: what they do, the help overlay and
//! docs/chat.md are made from them. Here: what a line that was typed asks for.

pub(super) mod argument;
mod table;

use super::action::{self, Action};
pub(super) use table::{COMMANDS, KEYS};

/// Users that one command names, at the most (the protocol's limit).
const NAMES_MAX: usize = 100;

/// What a command line asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Direct,
    /// Does something with a message.
    Act(Action),
    Group,
    Add,
    Remove,
    Leave,
    Role,
    Mute,
    Unmute,
    Transfer,
    Rename,
    Joins,
    Link,
    Join,
    Members,
    Contacts,
    Ask,
    Accept,
    Decline,
    Unfriend,
    Follow,
    Unfollow,
    Remark,
    Block,
    Unblock,
    Pin,
    Archive,
    Silence,
    Nick,
    Privacy,
    Password,
    Devices,
    Revoke,
    Find,
    Help,
    Quit,
}

/// What a command takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    Nothing,
    Name,
    Names,
    NameAndText,
    NameAndWord,
    /// A title of one word or in quotes, and any number of names.
    TitleAndNames,
    /// Nothing, or all that follows.
    Text,
    /// All that follows.
    Line,
    Word,
}

impl Takes {
    /// Whether names stand behind the command.
    fn has_names(self) -> bool {
        !matches!(self, Self::Nothing | Self::Word)
    }
}

#[derive(Debug)]
pub(super) struct Command {
    pub(super) word: &'static str,
    pub(super) arguments: &'static str,
    pub(super) takes: Takes,
    pub(super) verb: Verb,
    /// Words that it knows as arguments.
    pub(super) words: &'static [&'static str],
    pub(super) what: &'static str,
}

/// What was typed, understood.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    Message(String),
    Command { verb: Verb, names: Vec<String>, text: String },
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
        let (names, text) = (vec![name.to_owned()], text.trim().to_owned());
        return Ok(Line::Command { verb: Verb::Direct, names, text });
    }
    if !typed.starts_with('/') {
        return Ok(Line::Message(typed.to_owned()));
    }
    let (word, rest) = typed.split_once(char::is_whitespace).unwrap_or((typed, ""));
    let command = COMMANDS.iter().find(|command| command.word == word);
    let command = command.ok_or_else(|| unknown(word))?;
    let (names, text) = arguments(command.takes, rest.trim())
        .ok_or_else(|| format!("{} {}: {}", command.word, command.arguments, command.what))?;
    if names.len() > NAMES_MAX {
        return Err(format!("{} takes at most {NAMES_MAX} users at once", command.word));
    }
    Ok(Line::Command { verb: command.verb, names, text: text.trim().to_owned() })
}

/// Names and text of a command; `None`: not what it takes.
fn arguments(takes: Takes, rest: &str) -> Option<(Vec<String>, &str)> {
    let name = |word: &str| word.trim_start_matches('@').to_owned();
    let names = |rest: &str| rest.split_whitespace().map(name).collect::<Vec<_>>();
    let (first, more) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let more = more.trim();
    match takes {
        Takes::Nothing => rest.is_empty().then(|| (Vec::new(), "")),
        Takes::Text => Some((Vec::new(), rest)),
        _ if rest.is_empty() => None,
        Takes::Line => Some((Vec::new(), rest)),
        Takes::Word => more.is_empty().then(|| (Vec::new(), first)),
        Takes::Name => more.is_empty().then(|| (vec![name(first)], "")),
        Takes::Names => Some((names(rest), "")),
        Takes::NameAndText => Some((vec![name(first)], more)),
        Takes::NameAndWord => {
            let is_word = !more.is_empty() && !more.contains(char::is_whitespace);
            is_word.then(|| (vec![name(first)], more))
        }
        Takes::TitleAndNames => {
            let (title, more) = match rest.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"')?,
                None => (first, more),
            };
            (!title.trim().is_empty()).then(|| (names(more), title))
        }
    }
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

/// What the word before the cursor can become: commands at the start of a line, then what the
/// command knows, and names.
pub(super) fn completions<'a>(before: &str, names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let start = before.rfind(char::is_whitespace).map_or(0, |at| at + 1);
    let word = before.get(start..).unwrap_or_default();
    if start == 0 && word.starts_with('/') {
        let found = COMMANDS.iter().filter(|command| command.word.starts_with(word));
        return found.map(|command| format!("{} ", command.word)).collect();
    }
    let verb = before.split_whitespace().next().unwrap_or_default();
    let command = COMMANDS.iter().find(|command| command.word == verb);
    if command.is_some_and(|command| command.verb == Verb::Act(Action::React)) {
        let found = action::emoji_words().filter(|one| one.starts_with(word));
        return found.map(|one| format!("{} ", action::emoji(one))).collect();
    }
    let words = command.map_or(&[][..], |command| command.words).iter().copied();
    let mut found: Vec<_> = words.filter(|one| one.starts_with(word)).map(str::to_owned).collect();
    if !word.is_empty() && command.is_none_or(|command| command.takes.has_names()) {
        let bare = word.trim_start_matches('@');
        let at = if word.starts_with('@') { "@" } else { "" };
        let names =
            names.filter(|name| name.starts_with(bare) && !name.contains(char::is_whitespace));
        found.extend(names.map(|name| format!("{at}{name}")));
    }
    found.sort();
    found.dedup();
    found.iter_mut().for_each(|one| one.push(' '));
    found
}

#[cfg(test)]
mod tests {
    use super::{COMMANDS, Line, Verb, completions, parse};

    fn order(verb: Verb, names: &[&str], text: &str) -> Result<Line, String> {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        Ok(Line::Command { verb, names, text: text.into() })
    }

    #[test]
    fn lines_are_messages_or_commands() {
        assert_eq!(parse("hi there"), Ok(Line::Message("hi there".into())));
        assert_eq!(parse("//etc"), Ok(Line::Message("/etc".into())));
        assert_eq!(parse("/dm bob"), order(Verb::Direct, &["bob"], ""));
        assert_eq!(parse("/dm @bob hello you"), order(Verb::Direct, &["bob"], "hello you"));
        assert_eq!(parse("@bob hello"), order(Verb::Direct, &["bob"], "hello"));
        assert_eq!(parse("/add bob  @carol"), order(Verb::Add, &["bob", "carol"], ""));
        assert_eq!(parse("/role bob admin"), order(Verb::Role, &["bob"], "admin"));
        assert_eq!(parse("/group walkers"), order(Verb::Group, &[], "walkers"));
        let quoted = parse("/group \"hill walkers\" bob carol");
        assert_eq!(quoted, order(Verb::Group, &["bob", "carol"], "hill walkers"));
        assert_eq!(parse("/rename a b"), order(Verb::Rename, &[], "a b"));
    }

    #[test]
    fn what_is_wrong_with_a_command_is_said() {
        assert!(parse("/dm").is_err_and(|why| why.contains("NAME")));
        assert!(parse("/block a b").is_err_and(|why| why.contains("/block NAME")));
        assert!(parse("/blok a").is_err_and(|why| why.contains("/help")));
        assert!(parse("/bl a").is_err_and(|why| why.contains("/block")));
        assert!(parse("/quit now").is_err());
        assert!(parse("/role bob").is_err_and(|why| why.contains("admin|member")));
        assert!(parse("/group \"open").is_err_and(|why| why.contains("quotes")));
        assert!(parse("/group \" \" bob").is_err());
        let many = format!("/add {}", "x ".repeat(101));
        assert!(parse(&many).is_err_and(|why| why.contains("100")));
    }

    #[test]
    fn each_command_has_a_word_of_its_own_and_says_what_it_does() {
        for (n, command) in COMMANDS.iter().enumerate() {
            assert!(command.word.starts_with('/') && !command.what.is_empty(), "{command:?}");
            let others = COMMANDS.iter().skip(n + 1);
            assert!(others.filter(|other| other.word == command.word).count() == 0, "{command:?}");
        }
    }

    #[test]
    fn words_are_completed() {
        let names = ["alice", "alan", "bob"];
        assert_eq!(completions("/unb", names.into_iter()), ["/unblock "]);
        assert_eq!(completions("/dm al", names.into_iter()), ["alan ", "alice "]);
        assert_eq!(completions("hi @b", names.into_iter()), ["@bob "]);
        assert!(completions("hi ", names.into_iter()).is_empty());
        assert_eq!(completions("/role bob ", names.into_iter()), ["admin ", "member "]);
        assert_eq!(completions("/mute al", names.into_iter()), ["alan ", "alice ", "all "]);
        assert_eq!(completions("/react par", names.into_iter()), ["🎉 "]);
    }
}
