//! Passwords, asked for where nobody can read them: not in the line of messages, not in a log.

use std::fmt;

use super::effect::Ask;
use crate::request::Password;

/// Bytes of a password that are taken, at the most (the protocol's limit).
const PASSWORD_BYTES_MAX: usize = 256;

/// What was typed so far. Its `Debug` is redacted.
#[derive(Clone, Default, PartialEq, Eq)]
struct Hidden(String);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hidden(***)")
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Step {
    #[default]
    Old,
    New {
        old: Option<Password>,
    },
    Again {
        old: Option<Password>,
        new: Password,
    },
}

/// A change of the password, step by step.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Prompt {
    step: Step,
    typed: Hidden,
}

/// What Enter leads to.
pub(super) enum Entered {
    Next(Prompt),
    Done(Ask),
    /// It begins anew.
    Wrong(String),
}

impl Prompt {
    pub(super) fn question(&self) -> &'static str {
        match self.step {
            Step::Old => "password now (empty: none yet): ",
            Step::New { .. } => "new password: ",
            Step::Again { .. } => "the new one again: ",
        }
    }

    /// One dot for each character.
    pub(super) fn dots(&self) -> String {
        "•".repeat(self.typed.0.chars().count())
    }

    /// Says whether there was room.
    pub(super) fn insert(&mut self, text: &str) -> bool {
        let fits = self.typed.0.len() + text.len() <= PASSWORD_BYTES_MAX;
        if fits {
            self.typed.0.push_str(text);
        }
        fits
    }

    pub(super) fn backspace(&mut self) {
        self.typed.0.pop();
    }

    pub(super) fn clear(&mut self) {
        self.typed.0.clear();
    }

    pub(super) fn enter(self) -> Entered {
        let typed = self.typed.0;
        let password = |typed: String| Password::new(typed).map_err(|error| error.to_string());
        let next = |step| Entered::Next(Self { step, typed: Hidden::default() });
        match self.step {
            Step::Old if typed.is_empty() => next(Step::New { old: None }),
            Step::Old => match password(typed) {
                Ok(old) => next(Step::New { old: Some(old) }),
                Err(why) => Entered::Wrong(why),
            },
            Step::New { old } => match password(typed) {
                Ok(new) => next(Step::Again { old, new }),
                Err(why) => Entered::Wrong(why),
            },
            Step::Again { old, new } => match password(typed) {
                Ok(again) if again == new => Entered::Done(Ask::Password { old, new }),
                _ => Entered::Wrong("these were two different passwords".to_owned()),
            },
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    fn typed(mut prompt: Prompt, text: &str) -> Entered {
        assert!(prompt.insert(text));
        assert!(!format!("{prompt:?} {}", prompt.dots()).contains("horse"));
        prompt.enter()
    }

    fn next(entered: Entered) -> Option<Prompt> {
        match entered {
            Entered::Next(prompt) => Some(prompt),
            _ => None,
        }
    }

    #[test]
    fn a_password_is_asked_for_twice_and_shown_never() {
        let prompt = next(typed(Prompt::default(), "old horse 1")).unwrap();
        let prompt = next(typed(prompt, "new horse 2")).unwrap();
        let done = typed(prompt.clone(), "new horse 2");
        assert!(matches!(&done, Entered::Done(Ask::Password { old: Some(_), .. })));
        assert!(matches!(typed(prompt, "new horse 3"), Entered::Wrong(_)));
        // No password yet; one that is too short.
        let prompt = next(Prompt::default().enter()).unwrap();
        assert!(matches!(typed(prompt, "short"), Entered::Wrong(why) if why.contains("8 to 256")));
        assert!(!Prompt::default().insert(&"x".repeat(PASSWORD_BYTES_MAX + 1)));
    }
}
