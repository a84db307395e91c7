//! What a command is given, read from JSON and checked against the table.

use petrel_core::account::{check_password, check_user_name};
use petrel_core::id::{ConversationId, DeviceId, UserId};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::problem::Problem;
use super::table::{Argument, Command, Kind};

/// What a command is given. Every value is as its argument's kind says, and what is required is there.
#[derive(Clone, Debug)]
pub(crate) struct Given(Map<String, Value>);

impl Given {
    /// Reads the body of a request.
    ///
    /// # Errors
    /// What is wrong, with the argument's name.
    pub(super) fn read(command: &Command, body: &[u8]) -> Result<Self, Problem> {
        let mut given: Map<String, Value> = serde_json::from_slice(body)
            .map_err(|error| Problem::invalid("body", format!("no JSON object: {error}")))?;
        // As good as not given.
        given.retain(|_, value| !value.is_null());
        for name in given.keys() {
            if !command.arguments.iter().any(|argument| argument.name == name) {
                let known: Vec<_> = command.arguments.iter().map(|a| a.name).collect();
                let text = format!("there is no such argument; there are: {}", known.join(", "));
                return Err(Problem::invalid(name, text));
            }
        }
        for argument in command.arguments {
            match given.get(argument.name) {
                Some(value) => check(argument, value)?,
                None if argument.required => {
                    return Err(Problem::invalid(argument.name, "it is missing"));
                }
                None => {}
            }
        }
        Ok(Self(given))
    }

    /// A text; empty if it is not given.
    pub(super) fn text(&self, name: &str) -> &str {
        self.0.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// Texts; none if they are not given.
    pub(super) fn texts(&self, name: &str) -> Vec<String> {
        let all = self.0.get(name).and_then(Value::as_array).into_iter().flatten();
        all.filter_map(Value::as_str).map(str::to_owned).collect()
    }

    /// A number, or this.
    pub(super) fn count(&self, name: &str, default: u64) -> u64 {
        self.0.get(name).and_then(Value::as_u64).unwrap_or(default)
    }

    /// Whether it is on.
    pub(super) fn switch(&self, name: &str) -> bool {
        self.0.get(name).and_then(Value::as_bool).unwrap_or(false)
    }

    /// Whether it is given.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// A group's id.
    pub(super) fn group(&self) -> ConversationId {
        self.id("group").into()
    }

    /// A device's id.
    pub(super) fn device(&self) -> DeviceId {
        self.id("device").into()
    }

    /// The user's id after which a page begins.
    pub(super) fn after(&self) -> Option<UserId> {
        self.has("after").then(|| self.id("after").into())
    }

    fn id(&self, name: &str) -> Uuid {
        // What is no id was refused when it was read.
        Uuid::try_parse(self.text(name)).unwrap_or_default()
    }

    /// For the audit log: without what must not be in a log.
    pub(super) fn shown(&self, command: &Command) -> String {
        let mut shown = self.0.clone();
        for argument in command.arguments {
            if matches!(argument.kind, Kind::Password | Kind::Lines(_))
                && let Some(value) = shown.get_mut(argument.name)
            {
                *value = Value::from("***");
            }
        }
        Value::Object(shown).to_string()
    }
}

fn check(argument: &Argument, value: &Value) -> Result<(), Problem> {
    let wrong = |text: String| Err(Problem::invalid(argument.name, text));
    match (argument.kind, value) {
        (Kind::Line(max) | Kind::Lines(max), Value::String(text)) => {
            let is_line = matches!(argument.kind, Kind::Line(_));
            let allowed = |c: char| !c.is_control() || (!is_line && c == '\n');
            if text.is_empty() && argument.required {
                return wrong("it is empty".to_owned());
            }
            if text.len() > max {
                return wrong(format!("{} bytes; at most {max}", text.len()));
            }
            if !text.chars().all(allowed) {
                let but = if is_line { "" } else { " but line feeds" };
                return wrong(format!("no control characters{but}"));
            }
        }
        (Kind::Password, Value::String(text)) => check_password(argument.name, text)?,
        (Kind::Id, Value::String(text)) => {
            if Uuid::try_parse(text).is_err() {
                return wrong("it is no id; those have 32 hexadecimal digits".to_owned());
            }
        }
        (Kind::Users(max), Value::Array(names)) => {
            if names.len() > max {
                return wrong(format!("{} users; at most {max}", names.len()));
            }
            if names.is_empty() && argument.required {
                return wrong("nobody is named".to_owned());
            }
            for name in names {
                let Some(name) = name.as_str() else {
                    return wrong(format!("{name} is no user name"));
                };
                if check_user_name(name).is_err() {
                    return wrong(format!("{name:?} is no user name"));
                }
            }
        }
        (Kind::Count(max), Value::Number(number)) => match number.as_u64() {
            Some(number) if (1..=max).contains(&number) => {}
            _ => return wrong(format!("{number}; 1 to {max}")),
        },
        (Kind::Word(words), Value::String(word)) => {
            if !words.contains(&word.as_str()) {
                return wrong(format!("{word:?}; one of {}", words.join(", ")));
            }
        }
        (Kind::Switch, Value::Bool(_)) => {}
        (kind, _) => return wrong(format!("it is {}", kind.wanted())),
    }
    Ok(())
}

impl Kind {
    fn wanted(self) -> &'static str {
        match self {
            Self::Line(_) | Self::Lines(_) | Self::Password | Self::Id | Self::Word(_) => "a text",
            Self::Users(_) => "a list of user names",
            Self::Count(_) => "a whole number",
            Self::Switch => "true or false",
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use crate::admin::table::find;

    fn refused(group: &str, name: &str, body: &str) -> String {
        let problem = Given::read(find(group, name).unwrap(), body.as_bytes()).unwrap_err();
        format!("{problem:?}")
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (body, wanted) in [
            ("", &["body"][..]),
            ("[]", &["body"]),
            ("{\"user\": \"al\"", &["body"]),
            ("{}", &["user", "missing"]),
            ("{\"user\": null}", &["user", "missing"]),
            ("{\"user\": 5}", &["user", "a text"]),
            ("{\"user\": \"\"}", &["user", "empty"]),
            ("{\"user\": \"a\\u0000\"}", &["user", "control"]),
            ("{\"user\": \"al\", \"name\": 1}", &["name", "no such argument", "nickname"]),
            ("{\"user\": \"al\", \"password\": \"short\"}", &["password", "8 to 256"]),
            ("{\"user\": \"al\", \"user\": 5}", &["user", "a text"]),
        ] {
            let said = refused("users", "create", body);
            for part in wanted {
                assert!(said.contains(part), "{body}: {said} lacks {part}");
            }
        }
        let many = format!("{{\"limit\": {}}}", super::super::table::PAGE_MAX + 1);
        assert!(refused("users", "list", &many).contains("1 to"));
        assert!(refused("users", "list", "{\"limit\": 1.5}").contains("limit"));
        assert!(
            refused("devices", "revoke", "{\"user\":\"al\",\"device\":\"xyz\"}").contains("no id")
        );
        assert!(
            refused("devices", "revoke", "{\"user\":\"al\",\"all\":\"yes\"}").contains("true or")
        );
        let group = "0".repeat(32);
        for (users, wanted) in
            [("[]", "nobody"), ("[\"A\"]", "no user name"), ("[5]", "no user name")]
        {
            let body = format!("{{\"group\": \"{group}\", \"users\": {users}}}");
            assert!(refused("groups", "add", &body).contains(wanted), "{body}");
        }
        let joins = "{\"owner\": \"al\", \"title\": \"t\", \"joins\": \"all\"}";
        assert!(refused("groups", "create", joins).contains("closed, request, open"));
    }

    #[test]
    fn no_log_shows_a_password_or_a_message() {
        let read = |group, name, body: &str| {
            let command = find(group, name).unwrap();
            Given::read(command, body.as_bytes()).unwrap().shown(command)
        };
        let shown = read("users", "create", "{\"user\": \"al\", \"password\": \"correct horse\"}");
        assert!(shown.contains("\"al\"") && !shown.contains("correct"), "{shown}");
        let shown = read("messages", "send", "{\"user\": \"al\", \"text\": \"hello\\nworld\"}");
        assert!(shown.contains("\"al\"") && !shown.contains("hello"), "{shown}");
    }
}
