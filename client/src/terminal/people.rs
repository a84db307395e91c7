//! Who is known, and by which name. Names in here are clean.

use std::collections::HashMap;

use super::clean;
use crate::id::UserId;
use crate::request::{Contact, Friendship, UserFound};

/// Names that are remembered, at the most; then all are asked for anew.
const NAMES_MAX: usize = 10_000;
/// Relations that are known, at the most (the protocol allows no more).
const RELATIONS_MAX: usize = 10_000;

#[derive(Debug, Clone, Default)]
struct Person {
    /// What commands call him.
    unique: String,
    /// What he calls himself; empty: nothing else.
    nickname: String,
}

/// What somebody is to the user.
#[derive(Debug, Clone)]
pub(super) struct Relation {
    pub(super) friendship: Friendship,
    pub(super) follows: bool,
    pub(super) is_followed: bool,
    pub(super) blocks: bool,
    pub(super) remark: String,
    /// What came with the open request.
    pub(super) text: String,
}

#[derive(Debug)]
pub(super) struct People {
    me: UserId,
    persons: HashMap<UserId, Person>,
    /// Who has which unique name.
    by_unique: HashMap<String, UserId>,
    relations: HashMap<UserId, Relation>,
    /// How many of them ask to be friends.
    asking: usize,
}

impl People {
    pub(super) fn new(me: UserId, my_name: &str) -> Self {
        let person = Person { unique: clean::line(my_name), nickname: String::new() };
        let by_unique = HashMap::from([(person.unique.clone(), me)]);
        let persons = HashMap::from([(me, person)]);
        Self { me, persons, by_unique, relations: HashMap::new(), asking: 0 }
    }

    pub(super) fn learn(&mut self, found: &UserFound) {
        if self.persons.len() >= NAMES_MAX && !self.persons.contains_key(&found.user) {
            let me = self.me;
            self.persons.retain(|user, _| *user == me);
            self.by_unique.retain(|_, user| *user == me);
        }
        let (unique, nickname) = (clean::line(&found.name), clean::line(&found.nickname));
        self.by_unique.insert(unique.clone(), found.user);
        self.persons.insert(found.user, Person { unique, nickname });
    }

    /// The user himself is shown by another name.
    pub(super) fn rename_me(&mut self, nickname: &str) {
        self.persons.entry(self.me).or_default().nickname = clean::line(nickname);
    }

    /// What somebody is to the user now.
    pub(super) fn relate(&mut self, contact: &Contact) {
        let user = contact.user.user;
        self.learn(&contact.user);
        let is_asking = |one: &Relation| usize::from(one.friendship == Friendship::Invited);
        self.asking -= self.relations.remove(&user).as_ref().map_or(0, is_asking);
        if contact.is_gone() || self.relations.len() >= RELATIONS_MAX {
            return;
        }
        let relation = Relation {
            friendship: contact.friendship,
            follows: contact.follows,
            is_followed: contact.is_followed,
            blocks: contact.blocks,
            remark: clean::line(&contact.remark),
            text: clean::line(&contact.text),
        };
        self.asking += is_asking(&relation);
        self.relations.insert(user, relation);
    }

    pub(super) fn forget_relations(&mut self) {
        self.relations.clear();
        self.asking = 0;
    }

    pub(super) fn relation(&self, user: UserId) -> Option<&Relation> {
        self.relations.get(&user)
    }

    pub(super) fn relations(&self) -> impl Iterator<Item = (UserId, &Relation)> {
        self.relations.iter().map(|(user, relation)| (*user, relation))
    }

    /// How many ask to be friends.
    pub(super) fn asking(&self) -> usize {
        self.asking
    }

    pub(super) fn is_known(&self, user: UserId) -> bool {
        self.persons.contains_key(&user)
    }

    /// The name to be shown: the user's own for him, else his; the start of the id as long as none
    /// is known.
    pub(super) fn name(&self, user: UserId) -> String {
        let remark = self.relations.get(&user).map(|relation| relation.remark.trim());
        if let Some(remark) = remark.filter(|remark| !remark.is_empty()) {
            return remark.to_owned();
        }
        match self.persons.get(&user) {
            Some(person) if person.nickname.trim().is_empty() => person.unique.clone(),
            // Nobody is shown by a name that is somebody else's.
            Some(person) if self.is_of_another(person.nickname.trim(), user) => {
                format!("@{}", person.unique)
            }
            Some(person) => person.nickname.clone(),
            None => {
                let mut id = user.to_string();
                id.truncate(8);
                id
            }
        }
    }

    fn is_of_another(&self, name: &str, user: UserId) -> bool {
        self.by_unique.get(name).is_some_and(|other| *other != user)
    }

    /// The name to be shown, with the one that nobody else has if that is another one.
    pub(super) fn full_name(&self, user: UserId) -> String {
        let name = self.name(user);
        match self.unique(user) {
            Some(unique) if name.trim_start_matches('@') != unique => {
                format!("{name} (@{unique})")
            }
            _ => name,
        }
    }

    /// Who is called so by commands.
    pub(super) fn by_unique(&self, name: &str) -> Option<UserId> {
        self.by_unique.get(name).copied()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn found(user: UserId, name: &str, nickname: &str) -> UserFound {
        let (name, nickname) = (name.to_owned(), nickname.to_owned());
        UserFound { user, name, nickname, avatar: String::new() }
    }

    #[test]
    fn nobody_is_shown_by_a_name_that_is_somebody_elses() {
        let (me, bob, eve) = (UserId([1; 16]), UserId([2; 16]), UserId([3; 16]));
        let mut people = People::new(me, "alice");
        people.learn(&found(bob, "bob", "Bob the builder"));
        assert_eq!(people.name(bob), "Bob the builder");
        assert_eq!(people.full_name(bob), "Bob the builder (@bob)");
        for taken in ["bob", " bob ", "alice", "b\u{200b}ob"] {
            people.learn(&found(eve, "eve", taken));
            assert_eq!((people.name(eve), people.full_name(eve)), ("@eve".into(), "@eve".into()));
        }
        people.learn(&found(eve, "eve", "eve"));
        assert_eq!(people.name(eve), "eve");
        assert_eq!(people.by_unique("bob"), Some(bob));
        assert_eq!(people.by_unique(""), None);
    }
}
