//! Members: who is one, who was, and what each may see of the log.

use super::Conversation;
use crate::change::Role;
use crate::error::Rejection;
use crate::event::Event;
use crate::id::{Seq, UserId};
use crate::limits;
use crate::store::{ConversationKind, Member};

/// What a user may see at some place of a log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum View {
    /// This entry and those after it, up to here; `None`: all that come.
    Shown(Option<Seq>),
    /// Not this entry, and none up to here.
    Gap(Seq),
    /// Not this entry, and none after it.
    Over,
}

impl<O> Conversation<O> {
    /// The present members.
    pub fn members(&self) -> impl Iterator<Item = UserId> + '_ {
        self.members.iter().filter(|m| m.until.is_none()).map(|m| m.user)
    }

    /// The members and those who were; some of them more than once.
    pub fn known(&self) -> impl Iterator<Item = UserId> + '_ {
        self.members.iter().map(|m| m.user)
    }

    /// Whether members are told of each other's receipts: there are few enough of them.
    pub fn shares_receipts(&self) -> bool {
        let max = limits::RECEIPT_MEMBERS_MAX;
        self.members.len() <= max || self.members().nth(max).is_none()
    }

    /// The users who may see the entry at `seq`, those among them who are members no longer.
    pub fn readers(&self, seq: Seq) -> impl Iterator<Item = UserId> + '_ {
        self.members.iter().filter(move |m| contains(m, seq)).map(|m| m.user)
    }

    /// Those whose membership ended with the entry at `seq`.
    pub fn leavers(&self, seq: Seq) -> impl Iterator<Item = UserId> + '_ {
        let left = self.members.iter().filter(move |m| m.until == Some(seq)).map(|m| m.user);
        left.filter(move |user| !self.is_member(*user))
    }

    /// Whether somebody is a member now.
    pub fn is_member(&self, user: UserId) -> bool {
        self.member(user).is_ok()
    }

    /// What a member of a group is; `None` for others and elsewhere.
    pub fn role_of(&self, user: UserId) -> Option<Role> {
        match self.kind {
            ConversationKind::Group(_) => self.member(user).ok().map(|m| m.role),
            ConversationKind::Pair | ConversationKind::Own => None,
        }
    }

    /// The other one of a pair.
    pub fn peer_of(&self, user: UserId) -> Option<UserId> {
        match self.kind {
            ConversationKind::Pair => self.members().find(|m| *m != user),
            ConversationKind::Group(_) | ConversationKind::Own => None,
        }
    }

    /// What `user` may see at `seq`.
    ///
    /// # Errors
    /// [`Rejection::NotFound`] for who never was a member.
    pub fn view(&self, user: UserId, seq: Seq) -> Result<View, Rejection> {
        let own = || self.members.iter().filter(|m| m.user == user);
        if own().next().is_none() {
            return Err(Rejection::NotFound);
        }
        let mut here = own().filter(|m| contains(m, seq));
        if let Some(first) = here.next() {
            // Intervals may overlap: who came back to the whole history.
            let until = here.fold(first.until, |until, m| later(until, m.until));
            return Ok(View::Shown(until));
        }
        let next = own().map(|m| m.from).filter(|from| *from > seq).min();
        Ok(next.map_or(View::Over, |from| View::Gap(from.previous())))
    }

    /// The last entry that `user` may see; `None` while he is a member.
    ///
    /// # Errors
    /// [`Rejection::NotFound`] for who never was one.
    pub fn last_seen_by(&self, user: UserId) -> Result<Option<Seq>, Rejection> {
        let own = self.members.iter().filter(|m| m.user == user).map(|m| m.until);
        own.reduce(later).ok_or(Rejection::NotFound)
    }

    pub(super) fn member(&self, user: UserId) -> Result<&Member, Rejection> {
        self.members.iter().find(|m| m.user == user && m.until.is_none()).ok_or(Rejection::NotFound)
    }

    /// Follows what happened to the group with the entry at `seq`, which is exactly one version ahead.
    pub(super) fn follow(&mut self, event: &Event, sender: UserId, seq: Seq) {
        match event {
            Event::ProfileChanged(profile) => {
                self.kind = ConversationKind::Group(profile.clone());
            }
            Event::MembersAdded(users) => users.iter().for_each(|user| self.enter(*user, seq)),
            Event::MembersLeft(users) => {
                for user in users {
                    self.change_member(*user, |m| m.until = Some(seq));
                }
            }
            Event::RoleChanged(user, role) => {
                if *role == Role::Owner {
                    self.change_member(sender, |m| m.role = Role::Admin);
                }
                self.change_member(*user, |m| m.role = *role);
            }
            Event::MemberMuted(user, until_ms) => {
                self.change_member(*user, |m| m.muted_until_ms = *until_ms);
            }
            _ => {}
        }
    }

    fn enter(&mut self, user: UserId, seq: Seq) {
        if self.is_member(user) {
            return;
        }
        let whole = matches!(&self.kind, ConversationKind::Group(p) if p.whole_history);
        let from = if whole { Seq(1) } else { seq };
        let past = self.members.iter().filter(|m| m.user == user);
        let muted_until_ms = past.map(|m| m.muted_until_ms).max().unwrap_or(0);
        let member = Member { muted_until_ms, ..Member::new(user, from) };
        match self.members.iter_mut().find(|m| m.user == user && m.from == from) {
            Some(reopened) => *reopened = member,
            None => self.members.push(member),
        }
    }

    fn change_member(&mut self, user: UserId, change: impl FnOnce(&mut Member)) {
        let member = self.members.iter_mut().find(|m| m.user == user && m.until.is_none());
        if let Some(member) = member {
            change(member);
        }
    }
}

fn contains(member: &Member, seq: Seq) -> bool {
    member.from <= seq && member.until.is_none_or(|until| seq <= until)
}

/// The later of two ends; `None` is the open one.
fn later(a: Option<Seq>, b: Option<Seq>) -> Option<Seq> {
    Some(a?.max(b?))
}
