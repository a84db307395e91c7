//! What happened to a group, in words.

use super::calendar;
use super::clean;
use crate::id::UserId;
use crate::logged::GroupEvent;
use crate::request::{GroupProfile, Joins, MemberSettings, Role};

/// Users of one event that are named; the rest is counted.
const NAMED_MAX: usize = 6;

/// What a group is. Texts are clean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Profile {
    pub(super) name: String,
    avatar: String,
    joins: Joins,
    members_invite: bool,
    whole_history: bool,
    pub(super) is_muted: bool,
}

impl Profile {
    pub(super) fn of(said: &GroupProfile) -> Self {
        Self {
            name: clean::line(&said.name),
            avatar: clean::line(&said.avatar),
            joins: said.joins,
            members_invite: said.members_invite,
            whole_history: said.whole_history,
            is_muted: said.muted,
        }
    }

    /// What is new in it, as what somebody did.
    fn news(&self, before: &Self) -> Vec<String> {
        let mut news = Vec::new();
        if self.name != before.name {
            news.push(format!("renamed the group to \"{}\"", self.name));
        }
        if self.is_muted != before.is_muted {
            let said = if self.is_muted { "muted everyone" } else { "lets everyone write again" };
            news.push(said.to_owned());
        }
        if self.joins != before.joins {
            let said = match self.joins {
                Joins::ByInvitation => "lets people in by invitation only",
                Joins::ByRequest => "lets people ask to join",
                Joins::Open => "lets everybody join",
                Joins::Other(_) => "changed how people join",
            };
            news.push(said.to_owned());
        }
        if self.members_invite != before.members_invite {
            let who = if self.members_invite { "all members" } else { "admins only" };
            news.push(format!("lets {who} invite"));
        }
        if self.whole_history != before.whole_history {
            let what = if self.whole_history { "everything" } else { "what comes from then on" };
            news.push(format!("lets newcomers read {what}"));
        }
        if self.avatar != before.avatar {
            news.push("changed the picture".to_owned());
        }
        news
    }
}

/// An event of a group's log. Texts are clean; users are named when it is drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Happened {
    Made(Profile, Vec<UserId>),
    Changed(Profile),
    Added(Vec<UserId>),
    Left(Vec<UserId>),
    Role(UserId, Role),
    Muted(UserId, u64),
}

impl Happened {
    pub(super) fn of(event: GroupEvent) -> Self {
        match event {
            GroupEvent::Made { profile, users } => Self::Made(Profile::of(&profile), users),
            GroupEvent::ProfileChanged(profile) => Self::Changed(Profile::of(&profile)),
            GroupEvent::Added(users) => Self::Added(users),
            GroupEvent::Left(users) => Self::Left(users),
            GroupEvent::RoleChanged(user, role) => Self::Role(user, role),
            GroupEvent::Muted(user, until_ms) => Self::Muted(user, until_ms),
        }
    }

    /// Who has to be named.
    pub(super) fn users(&self) -> &[UserId] {
        match self {
            Self::Made(_, users) | Self::Added(users) | Self::Left(users) => {
                users.get(..NAMED_MAX).unwrap_or(users)
            }
            Self::Role(user, _) | Self::Muted(user, _) => std::slice::from_ref(user),
            Self::Changed(_) => &[],
        }
    }

    /// The group's profile after it, if it says it.
    pub(super) fn profile(&self) -> Option<&Profile> {
        match self {
            Self::Made(profile, _) | Self::Changed(profile) => Some(profile),
            _ => None,
        }
    }

    /// One line. `before` is the profile that was told last, if it is known.
    pub(super) fn line(
        &self,
        sender: UserId,
        before: Option<&Profile>,
        name: &dyn Fn(UserId) -> String,
    ) -> String {
        let by = name(sender);
        match self {
            Self::Made(profile, users) => {
                let with = if users.is_empty() { "" } else { " with " };
                format!("{by} made the group \"{}\"{with}{}", profile.name, listed(users, name))
            }
            Self::Changed(profile) => {
                let news = before.map(|before| profile.news(before)).unwrap_or_default();
                if news.is_empty() {
                    let muted = if profile.is_muted { ", in which only admins write" } else { "" };
                    return format!("{by} changed the group \"{}\"{muted}", profile.name);
                }
                format!("{by} {}", news.join(", "))
            }
            Self::Added(users) if users == &[sender] => format!("{by} joined"),
            Self::Added(users) => format!("{by} added {}", listed(users, name)),
            Self::Left(users) if users == &[sender] => format!("{by} left"),
            Self::Left(users) => format!("{by} removed {}", listed(users, name)),
            Self::Role(user, Role::Owner) => {
                format!("{by} handed the group over to {}", name(*user))
            }
            Self::Role(user, Role::Admin) => format!("{by} made {} an admin", name(*user)),
            Self::Role(user, _) => format!("{by} made {} a plain member", name(*user)),
            Self::Muted(user, 0) => format!("{by} lets {} write again", name(*user)),
            Self::Muted(user, until) => {
                format!("{by} muted {}{}", name(*user), until_words(*until))
            }
        }
    }
}

/// ` until ...`, or ` for good`.
pub(super) fn until_words(until_ms: u64) -> String {
    if until_ms >= MemberSettings::FOR_GOOD_MS {
        return " for good".to_owned();
    }
    format!(" until {}", calendar::moment(until_ms))
}

/// `bob, carol and dave`; long lists end in a number.
pub(super) fn listed(users: &[UserId], name: &dyn Fn(UserId) -> String) -> String {
    let more = users.len().saturating_sub(NAMED_MAX);
    let mut names: Vec<_> = users.iter().take(NAMED_MAX).map(|user| name(*user)).collect();
    if more > 0 {
        names.push(format!("{more} others"));
    }
    let last = names.pop().unwrap_or_default();
    if names.is_empty() { last } else { format!("{} and {last}", names.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: UserId = UserId([1; 16]);
    const BOB: UserId = UserId([2; 16]);
    const CAROL: UserId = UserId([3; 16]);

    fn name(user: UserId) -> String {
        match user {
            ALICE => "alice".to_owned(),
            BOB => "bob".to_owned(),
            CAROL => "carol".to_owned(),
            UserId(other) => format!("u{}", other[0]),
        }
    }

    fn said(event: GroupEvent, by: UserId, before: Option<&GroupProfile>) -> String {
        let before = before.map(Profile::of);
        Happened::of(event).line(by, before.as_ref(), &name)
    }

    #[test]
    fn who_comes_and_goes_is_told_in_words() {
        let walkers = GroupProfile::new("walkers");
        let made = GroupEvent::Made { profile: walkers, users: vec![BOB, CAROL] };
        assert_eq!(said(made, ALICE, None), "alice made the group \"walkers\" with bob and carol");
        assert_eq!(said(GroupEvent::Added(vec![BOB]), ALICE, None), "alice added bob");
        assert_eq!(said(GroupEvent::Added(vec![BOB]), BOB, None), "bob joined");
        assert_eq!(said(GroupEvent::Left(vec![CAROL]), CAROL, None), "carol left");
        assert_eq!(said(GroupEvent::Left(vec![CAROL]), ALICE, None), "alice removed carol");
        let many = (10..20).map(|n| UserId([n; 16])).collect();
        let line = said(GroupEvent::Added(many), ALICE, None);
        assert_eq!(line, "alice added u10, u11, u12, u13, u14, u15 and 4 others");
    }

    #[test]
    fn rights_are_told_in_words() {
        let role = |role| said(GroupEvent::RoleChanged(BOB, role), ALICE, None);
        assert_eq!(role(Role::Admin), "alice made bob an admin");
        assert_eq!(role(Role::Member), "alice made bob a plain member");
        assert_eq!(role(Role::Owner), "alice handed the group over to bob");
        let muted = |until| said(GroupEvent::Muted(BOB, until), ALICE, None);
        assert_eq!(muted(1_795_514_400_000), "alice muted bob until 2026-11-24 10:00");
        assert_eq!(muted(MemberSettings::FOR_GOOD_MS), "alice muted bob for good");
        assert_eq!(muted(0), "alice lets bob write again");
    }

    #[test]
    fn of_a_profile_what_is_new_is_told_if_the_one_before_is_known() {
        let before = GroupProfile::new("walkers");
        let after = GroupProfile { muted: true, ..GroupProfile::new("run\u{1b}ners") };
        let changed = || GroupEvent::ProfileChanged(after.clone());
        let line = said(changed(), ALICE, Some(&before));
        assert_eq!(line, "alice renamed the group to \"run\u{fffd}ners\", muted everyone");
        let line = said(changed(), ALICE, None);
        assert!(line.contains("changed the group") && line.contains("only admins"), "{line}");
    }
}
