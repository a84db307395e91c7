//! Who is known, and by which name. Names in here are clean.

use std::collections::HashMap;

use super::clean;
use crate::id::UserId;
use crate::request::UserFound;

/// Names that are remembered, at the most; then all are asked for anew.
const NAMES_MAX: usize = 10_000;

#[derive(Debug, Clone, Default)]
struct Person {
    /// What commands call him.
    unique: String,
    /// What he calls himself; empty: nothing else.
    nickname: String,
}

#[derive(Debug)]
pub(super) struct People {
    me: UserId,
    persons: HashMap<UserId, Person>,
}

impl People {
    pub(super) fn new(me: UserId, my_name: &str) -> Self {
        let person = Person { unique: clean::line(my_name), nickname: String::new() };
        Self { me, persons: HashMap::from([(me, person)]) }
    }

    pub(super) fn learn(&mut self, found: &UserFound) {
        if self.persons.len() >= NAMES_MAX && !self.persons.contains_key(&found.user) {
            let me = self.me;
            self.persons.retain(|user, _| *user == me);
        }
        let (unique, nickname) = (clean::line(&found.name), clean::line(&found.nickname));
        self.persons.insert(found.user, Person { unique, nickname });
    }

    pub(super) fn is_known(&self, user: UserId) -> bool {
        self.persons.contains_key(&user)
    }

    /// The name to be shown; the start of the id as long as none is known.
    pub(super) fn name(&self, user: UserId) -> String {
        match self.persons.get(&user) {
            Some(person) if person.nickname.trim().is_empty() => person.unique.clone(),
            Some(person) => person.nickname.clone(),
            None => {
                let mut id = user.to_string();
                id.truncate(8);
                id
            }
        }
    }

    /// The name to be shown, with the one that nobody else has if that is another one.
    pub(super) fn full_name(&self, user: UserId) -> String {
        let name = self.name(user);
        match self.unique(user) {
            Some(unique) if unique != name => format!("{name} (@{unique})"),
            _ => name,
        }
    }

    /// Who is called so by commands.
    pub(super) fn by_unique(&self, name: &str) -> Option<UserId> {
        let found = self.persons.iter().find(|(_, person)| person.unique == name);
        found.filter(|_| !name.is_empty()).map(|(user, _)| *user)
    }

    /// What commands call him.
    pub(super) fn unique(&self, user: UserId) -> Option<&str> {
        self.persons.get(&user).map(|person| person.unique.as_str())
    }

    /// All names that commands take.
    pub(super) fn uniques(&self) -> impl Iterator<Item = (UserId, &str)> {
        self.persons.iter().map(|(user, person)| (*user, person.unique.as_str()))
    }
}
