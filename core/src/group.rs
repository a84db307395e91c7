//! Groups: who may do what to them. Each request is judged over what was read of
//! the store, and comes to a [`Decision`].
//!
//! Power: owner above admin above member. Members write, and invite if the group lets them;
//! admins look after members and profile; the owner also appoints admins and hands the group
//! over. Nobody acts on his equals. There is exactly one owner, until the last one leaves.
//!
//! A request that finds all as it asks for comes to nothing, and succeeds: so a request that is
//! sent again does no harm.

mod join;
mod people;

use crate::change::{GroupProfile, Guard, JoinLink, Role, RowChange};
use crate::error::Rejection;
use crate::event::{Decision, Event, Log};
use crate::id::{ConversationId, RightsVersion, UserId};
use crate::limits;
use crate::store::{ConversationKind, ConversationRecord, Member, RelationRecord, User};
use crate::text;

/// What the deployment allows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GroupLimits {
    /// Members of one group, at the most.
    pub members_max: u64,
    /// Groups that one user is a member of, at the most.
    pub per_user_max: u64,
}

impl Default for GroupLimits {
    fn default() -> Self {
        Self {
            members_max: limits::GROUP_MEMBERS_DEFAULT,
            per_user_max: limits::GROUPS_OF_USER_DEFAULT,
        }
    }
}

/// What can be asked of a group, with what was read for it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum GroupCommand {
    /// A new profile.
    Profile(GroupProfile),
    /// Puts users in.
    Add(Vec<Invitee>),
    /// Takes users out.
    Remove(Vec<UserId>),
    /// The caller leaves.
    Leave,
    /// Makes a member an admin, or an admin a member.
    Role(UserId, Role),
    /// Makes a member the owner.
    Transfer(UserId),
    /// Silences a member until then (Unix milliseconds; 0: no longer).
    Mute(UserId, u64),
    /// Lets somebody in who has asked to join.
    Accept(Asker),
    /// Does not let him in.
    Decline(Asker),
    /// The caller joins, or asks to.
    Join(Joining),
    /// Makes a link.
    MakeLink(NewLink),
    /// A link works no longer; `None` if there is none with this hash.
    RevokeLink(Option<JoinLink>),
}

/// Somebody who is to be put into a group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Invitee {
    /// Who.
    pub user: UserId,
    /// What the caller and he are to each other; `None` if there is no such user.
    pub relation: Option<RelationRecord>,
    /// How many groups he is a member of.
    pub groups: u64,
}

impl Invitee {
    /// Whether he lets the caller put him into a group.
    fn is_willing(&self, limits: GroupLimits) -> bool {
        self.relation.as_ref().is_some_and(|relation| {
            !relation.blocks
                && !relation.is_blocked
                && relation.privacy.groups.admits(relation.is_contact())
                && self.groups < limits.per_user_max
        })
    }

    /// His settings are what the decision rests on.
    fn guard(&self) -> Option<Guard> {
        let version = self.relation.as_ref()?.other_version;
        Some(Guard { conversation: ConversationId::of_user(self.user), version, bumps: false })
    }
}

/// Somebody whose request to join is answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Asker {
    /// Who.
    pub user: User,
    /// Whether his request is open.
    pub asked: bool,
    /// How many groups he is a member of.
    pub groups: u64,
}

/// Somebody who wants to join.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Joining {
    /// The caller.
    pub user: User,
    /// How.
    pub way: Way,
    /// What he says, if he has to ask.
    pub text: String,
    /// Whether he has asked already.
    pub asked: bool,
    /// Requests that are open.
    pub open_requests: u64,
    /// How many groups he is a member of.
    pub groups: u64,
    /// Whether it was somebody else who ended his last membership.
    pub was_removed: bool,
}

/// How somebody wants to join.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Way {
    /// He knows the group's id.
    Id,
    /// He has a link.
    Link(JoinLink),
}

/// A link that is to be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NewLink {
    /// SHA-256 of its secret.
    pub hash: [u8; 32],
    /// How long it works, in milliseconds.
    pub life_ms: u64,
    /// How often it may be used; 0: any number of times.
    pub uses_max: u32,
    /// How many of the group's links work now.
    pub working: u64,
}

/// What a request comes to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Judged {
    /// What is to be done.
    pub decision: Decision,
    /// Users who could not be put in.
    pub refused: Vec<UserId>,
    /// The caller's request to join waits for an admin.
    pub asked: bool,
}

/// What a user knows of a group.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct GroupView {
    /// What it is; `None` for who is no member.
    pub profile: Option<GroupProfile>,
    /// How many members it has.
    pub members: u64,
    /// What the user is in it.
    pub role: Option<Role>,
}

impl GroupView {
    /// What the maker of a new group knows of it.
    pub fn of_new(decision: &Decision) -> Self {
        let joins = decision.rows.iter().filter(|row| matches!(row, RowChange::Join { .. }));
        let profile = decision.rows.iter().find_map(|row| match row {
            RowChange::Group(_, profile) => Some(profile.clone()),
            _ => None,
        });
        Self { profile, members: joins.count() as u64, role: Some(Role::Owner) }
    }
}

/// A group as one statement of the store saw it.
#[derive(Clone, Copy, Debug)]
pub struct GroupState<'a> {
    id: ConversationId,
    version: RightsVersion,
    profile: &'a GroupProfile,
    members: &'a [Member],
}

impl<'a> GroupState<'a> {
    /// The state that a record shows.
    ///
    /// # Errors
    /// [`Rejection::NotFound`] if it is not that of a group.
    pub fn of(record: &'a ConversationRecord) -> Result<Self, Rejection> {
        let ConversationKind::Group(profile) = &record.kind else {
            return Err(Rejection::NotFound);
        };
        Ok(Self {
            id: record.id,
            version: record.rights_version,
            profile,
            members: &record.members,
        })
    }

    /// Which group.
    pub fn id(&self) -> ConversationId {
        self.id
    }

    /// What the group is.
    pub fn profile(&self) -> &'a GroupProfile {
        self.profile
    }

    /// What a user is in it; `None` for who is no member.
    pub fn role_of(&self, user: UserId) -> Option<Role> {
        self.present().find(|m| m.user == user).map(|m| m.role)
    }

    /// How many members it has.
    pub fn members(&self) -> u64 {
        self.present().count() as u64
    }

    /// The last interval of somebody who was a member and is none.
    pub fn last_left(&self, user: UserId) -> Option<&'a Member> {
        if self.role_of(user).is_some() {
            return None;
        }
        self.members.iter().filter(|m| m.user == user).max_by_key(|m| m.until)
    }

    /// What `user` knows of the group once a decision is carried out.
    pub fn view_after(&self, decision: &Decision, user: UserId) -> GroupView {
        let mut view = GroupView {
            profile: Some(self.profile.clone()),
            members: self.members(),
            role: self.role_of(user),
        };
        for row in &decision.rows {
            match row {
                RowChange::Join { user: who, role, .. } => {
                    view.members += 1;
                    view.role = if *who == user { Some(*role) } else { view.role };
                }
                RowChange::Leave { user: who, .. } => {
                    view.members -= 1;
                    view.role = view.role.filter(|_| *who != user);
                }
                RowChange::Role(_, who, role) if *who == user => view.role = Some(*role),
                RowChange::Profile(_, profile) => view.profile = Some(profile.clone()),
                _ => {}
            }
        }
        match view.role {
            Some(_) => view,
            None => GroupView::default(),
        }
    }

    fn present(&self) -> impl Iterator<Item = &'a Member> {
        self.members.iter().filter(|m| m.until.is_none())
    }

    fn member(&self, user: UserId) -> Option<&'a Member> {
        self.present().find(|m| m.user == user)
    }

    /// Who looks after the group.
    fn admins(&self) -> impl Iterator<Item = UserId> {
        self.present().filter(|m| m.role >= Role::Admin).map(|m| m.user)
    }

    /// Checks that the caller is at least this.
    fn needs(&self, actor: UserId, role: Role) -> Result<Role, Rejection> {
        let own = self.role_of(actor).ok_or(Rejection::NotFound)?;
        if own >= role {
            return Ok(own);
        }
        let needed = match role {
            Role::Member => "a member",
            Role::Admin => "an admin or the owner",
            Role::Owner => "the owner",
        };
        Err(Rejection::Forbidden { needed })
    }

    /// Checks that so many more fit.
    fn has_room(&self, more: u64, limits: GroupLimits) -> Result<(), Rejection> {
        if self.members().saturating_add(more) <= limits.members_max {
            return Ok(());
        }
        Err(Rejection::LimitReached { what: "members of a group", max: limits.members_max })
    }

    /// The decision that changes the group by these rows, told to it by this event.
    fn change(&self, rows: Vec<RowChange>, event: Event) -> Decision {
        Decision {
            guards: vec![self.guard(true)],
            rows,
            events: vec![(Log::Group(self.id), event)],
        }
    }

    fn guard(&self, bumps: bool) -> Guard {
        Guard { conversation: self.id, version: self.version, bumps }
    }

    /// Somebody comes in. A mute that is not over outlives his absence.
    fn join(&self, user: UserId, now_ms: u64) -> Vec<RowChange> {
        let mut rows = vec![RowChange::Join {
            conversation: self.id,
            user,
            role: Role::Member,
            whole_history: self.profile.whole_history,
        }];
        let muted_until_ms = self.last_left(user).map_or(0, |m| m.muted_until_ms);
        if muted_until_ms > now_ms {
            rows.push(RowChange::Mute(self.id, user, muted_until_ms));
        }
        rows
    }
}

/// Judges a request of `actor` at Unix time `now_ms`.
///
/// # Errors
/// `NotFound` for who is no member, `Forbidden`, `Invalid`, `LimitReached`, `NotAccepted`, and
/// `Conflict` where what is to be answered is not there.
pub fn judge(
    group: GroupState<'_>,
    actor: UserId,
    command: GroupCommand,
    limits: GroupLimits,
    now_ms: u64,
) -> Result<Judged, Rejection> {
    let decision = match command {
        GroupCommand::Add(users) => return people::add(group, actor, &users, limits, now_ms),
        GroupCommand::Join(joining) => return join::join(group, joining, limits, now_ms),
        GroupCommand::Profile(profile) => change_profile(group, actor, profile),
        GroupCommand::Remove(users) => people::remove(group, actor, users),
        GroupCommand::Leave => people::leave(group, actor),
        GroupCommand::Role(user, role) => people::appoint(group, actor, user, role),
        GroupCommand::Transfer(user) => people::transfer(group, actor, user),
        GroupCommand::Mute(user, until_ms) => people::mute(group, actor, user, until_ms, now_ms),
        GroupCommand::Accept(asker) => join::accept(group, actor, asker, limits, now_ms),
        GroupCommand::Decline(asker) => join::decline(group, actor, asker),
        GroupCommand::MakeLink(link) => join::make_link(group, actor, link, now_ms),
        GroupCommand::RevokeLink(link) => join::revoke_link(group, actor, link),
    };
    Ok(Judged { decision: decision?, ..Judged::default() })
}

/// Checks what a client says of a group's profile.
///
/// # Errors
/// [`Rejection::Invalid`] that names the field.
pub fn check_profile(profile: &GroupProfile) -> Result<(), Rejection> {
    if profile.name.trim().is_empty() {
        return Err(Rejection::Invalid {
            field: "profile.name",
            problem: "a group has a name".to_owned(),
        });
    }
    text::check_line("profile.name", &profile.name, limits::GROUP_NAME_BYTES_MAX)?;
    text::check_line("profile.avatar", &profile.avatar, limits::AVATAR_BYTES_MAX)
}

/// Judges the making of a group by `owner`, who is a member of `groups` others. Those who cannot
/// be put in are left out, and named.
///
/// # Errors
/// `Invalid`, `LimitReached`.
pub fn create(
    id: ConversationId,
    owner: UserId,
    groups: u64,
    profile: GroupProfile,
    users: &[Invitee],
    limits: GroupLimits,
) -> Result<Judged, Rejection> {
    check_profile(&profile)?;
    people::check_batch(users.len())?;
    if groups >= limits.per_user_max {
        return Err(Rejection::LimitReached { what: "groups of a user", max: limits.per_user_max });
    }
    let others = users.iter().filter(|i| i.user != owner);
    let (willing, refused): (Vec<_>, Vec<_>) = others.partition(|i| i.is_willing(limits));
    let mut users: Vec<UserId> = willing.iter().map(|i| i.user).collect();
    users.sort_unstable();
    users.dedup();
    if users.len() as u64 >= limits.members_max {
        return Err(Rejection::LimitReached {
            what: "members of a group",
            max: limits.members_max,
        });
    }
    let join = |user, role| RowChange::Join {
        conversation: id,
        user,
        role,
        whole_history: profile.whole_history,
    };
    let mut rows = vec![RowChange::Group(id, profile.clone()), join(owner, Role::Owner)];
    rows.extend(users.iter().map(|user| join(*user, Role::Member)));
    let decision = Decision {
        guards: guards_of(&willing),
        rows,
        events: vec![(Log::Group(id), Event::GroupMade { profile, users })],
    };
    let refused = refused.iter().map(|i| i.user).collect();
    Ok(Judged { decision, refused, asked: false })
}

/// The guards of those who are put in, each once.
fn guards_of(users: &[&Invitee]) -> Vec<Guard> {
    let mut guards: Vec<Guard> = users.iter().filter_map(|i| i.guard()).collect();
    guards.sort_unstable_by_key(|g| g.conversation);
    guards.dedup_by_key(|g| g.conversation);
    guards
}

fn change_profile(
    group: GroupState<'_>,
    actor: UserId,
    mut profile: GroupProfile,
) -> Result<Decision, Rejection> {
    group.needs(actor, Role::Admin)?;
    check_profile(&profile)?;
    profile.created_ms = group.profile.created_ms;
    if profile == *group.profile {
        return Ok(Decision::default());
    }
    let rows = vec![RowChange::Profile(group.id, profile.clone())];
    Ok(group.change(rows, Event::ProfileChanged(profile)))
}

#[cfg(test)]
#[path = "group/tests.rs"]
mod tests;
