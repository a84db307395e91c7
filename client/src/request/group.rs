//! Requests about groups.

use bytes::Bytes;
use petrel_proto::wire::{self, frame::What};

use super::account::{UserFound, user_found};
use super::check::{self, NAME_BYTES_MAX, TEXT_BYTES_MAX, numbered};
use super::contact::{PAGE_MAX, REQUEST_TEXT_BYTES_MAX};
use super::link::LinkSecret;
use super::unexpected;
use crate::client::Client;
use crate::error::ClientError;
use crate::event::Receipt;
use crate::id::{ConversationId, UserId};
use crate::incoming;

/// Users that one request puts into a group or takes out, at the most.
const BATCH_MAX: usize = 100;

numbered! {
    /// How people come into a group.
    Joins {
        /// By invitation only.
        ByInvitation = 1,
        /// By a request that an admin accepts.
        ByRequest = 2,
        /// Whoever wants to.
        Open = 3,
    }
}

numbered! {
    /// What somebody is in a group.
    Role {
        /// No member.
        Outside = 0,
        /// A member.
        Member = 1,
        /// An admin.
        Admin = 2,
        /// The owner.
        Owner = 3,
    }
}

/// What a group is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupProfile {
    /// Its name, 1 to 128 bytes.
    pub name: String,
    /// A reference to a picture, at most 512 bytes; empty for none.
    pub avatar: String,
    /// How people come in.
    pub joins: Joins,
    /// Whether every member may invite, or admins only.
    pub members_invite: bool,
    /// Whether who comes in may read what was said before.
    pub whole_history: bool,
    /// Whether only admins may write.
    pub muted: bool,
    /// When it was made, Unix milliseconds; ignored by the server.
    pub created_ms: u64,
}

impl GroupProfile {
    /// A group with this name, by invitation only, whose members all may write and invite.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            avatar: String::new(),
            joins: Joins::ByInvitation,
            members_invite: true,
            whole_history: false,
            muted: false,
            created_ms: 0,
        }
    }
}

/// A group as its reader knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Group {
    /// Its conversation.
    pub conversation: ConversationId,
    /// What it is.
    pub profile: GroupProfile,
    /// How many members it has.
    pub members: u64,
    /// What the reader is in it.
    pub role: Role,
    /// Users of the request that could not be put in.
    pub refused: Vec<UserId>,
    /// The request to join waits for an admin.
    pub asked: bool,
}

/// A change of a group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum GroupCommand {
    /// A new profile.
    Profile(GroupProfile),
    /// Puts users in, at most 100; those that cannot be are in [`Group::refused`].
    Add(Vec<UserId>),
    /// Takes users out, at most 100.
    Remove(Vec<UserId>),
    /// Leaves; an owner hands the group over first, unless he is the last one.
    Leave,
    /// Makes a member an admin, or a plain member again.
    SetRole(UserId, Role),
    /// Makes a member the owner, in place of the caller.
    Transfer(UserId),
    /// A member may not write until then (Unix milliseconds); 0 lifts it.
    Mute(UserId, u64),
    /// Accepts a request to join.
    Accept(UserId),
    /// Declines it.
    Decline(UserId),
}

/// How to join a group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum JoinBy {
    /// Openly, or by a request with this text of at most 256 bytes.
    Asking(ConversationId, String),
    /// By a link.
    Link(LinkSecret),
}

/// A member of a group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// Who.
    pub user: UserFound,
    /// As what.
    pub role: Role,
    /// May not write until then, Unix milliseconds; 0: may.
    pub muted_until_ms: u64,
}

/// One page of members.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Members {
    /// In the order of the users' ids.
    pub members: Vec<Member>,
    /// Where the next page starts; empty after the last.
    pub next_page: Bytes,
}

/// A request to join a group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JoinRequest {
    /// Who asks.
    pub user: UserFound,
    /// What he says.
    pub text: String,
    /// Since when, Unix milliseconds.
    pub asked_ms: u64,
}

/// One page of requests to join.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct JoinRequests {
    /// In the order of the users' ids.
    pub requests: Vec<JoinRequest>,
    /// Where the next page starts; empty after the last.
    pub next_page: Bytes,
}

pub(crate) fn profile(said: wire::GroupProfile) -> Result<GroupProfile, ClientError> {
    Ok(GroupProfile {
        name: check::text("a group's name", said.name, NAME_BYTES_MAX)?,
        avatar: check::text("an avatar", said.avatar, TEXT_BYTES_MAX)?,
        joins: Joins::from_number(said.joins),
        members_invite: said.members_invite,
        whole_history: said.whole_history,
        muted: said.muted,
        created_ms: said.created_ms,
    })
}

pub(super) fn group(said: wire::Group) -> Result<Group, ClientError> {
    let profile_said = said
        .profile
        .ok_or_else(|| ClientError::Protocol("a Group without a profile".to_owned()))?;
    Ok(Group {
        conversation: check::conversation(&said.conversation)?,
        profile: profile(profile_said)?,
        members: said.members,
        role: Role::from_number(said.role),
        refused: check::users(&said.refused)?,
        asked: said.asked,
    })
}

fn wire_profile(profile: GroupProfile) -> Result<wire::GroupProfile, ClientError> {
    check::argument("profile.name", profile.name.len(), 128)?;
    check::argument("profile.avatar", profile.avatar.len(), 512)?;
    Ok(wire::GroupProfile {
        name: profile.name,
        avatar: profile.avatar,
        joins: profile.joins.number(),
        members_invite: profile.members_invite,
        whole_history: profile.whole_history,
        muted: profile.muted,
        created_ms: 0,
    })
}

fn wire_users(users: &[UserId]) -> Result<Vec<Bytes>, ClientError> {
    check::argument_count("users", users.len(), BATCH_MAX)?;
    Ok(users.iter().map(|user| user.to_bytes()).collect())
}

fn group_command(command: GroupCommand) -> Result<wire::change_group::What, ClientError> {
    use wire::change_group::What as Wire;
    Ok(match command {
        GroupCommand::Profile(profile) => Wire::Profile(wire_profile(profile)?),
        GroupCommand::Add(users) => Wire::Add(wire::UserIds { users: wire_users(&users)? }),
        GroupCommand::Remove(users) => Wire::Remove(wire::UserIds { users: wire_users(&users)? }),
        GroupCommand::Leave => Wire::Leave(true),
        GroupCommand::SetRole(user, role) => {
            Wire::Role(wire::RoleOf { user: user.to_bytes(), role: role.number() })
        }
        GroupCommand::Transfer(user) => Wire::Transfer(user.to_bytes()),
        GroupCommand::Mute(user, until_ms) => {
            Wire::Mute(wire::MuteOf { user: user.to_bytes(), until_ms })
        }
        GroupCommand::Accept(user) => Wire::Accept(user.to_bytes()),
        GroupCommand::Decline(user) => Wire::Decline(user.to_bytes()),
    })
}

fn member(said: wire::MemberFound) -> Result<Member, ClientError> {
    Ok(Member {
        user: known_user(said.user)?,
        role: Role::from_number(said.role),
        muted_until_ms: said.muted_until_ms,
    })
}

fn join_request(said: wire::JoinRequest) -> Result<JoinRequest, ClientError> {
    Ok(JoinRequest {
        user: known_user(said.user)?,
        text: check::text("a request's text", said.text, TEXT_BYTES_MAX)?,
        asked_ms: said.asked_ms,
    })
}

pub(crate) fn known_user(said: Option<wire::UserFound>) -> Result<UserFound, ClientError> {
    user_found(said.ok_or_else(|| ClientError::Protocol("a line without a user".to_owned()))?)
}

impl Client {
    /// Makes a group with the caller as owner, and these first members (at most 100).
    ///
    /// # Errors
    /// What a request may meet; `LimitReached` for one group too many.
    pub async fn create_group(
        &self,
        profile: GroupProfile,
        users: &[UserId],
    ) -> Result<Group, ClientError> {
        let (profile, users) = (Some(wire_profile(profile)?), wire_users(users)?);
        self.ask_group(What::CreateGroup(wire::CreateGroup { profile, users })).await
    }

    /// A group, as the caller knows it.
    ///
    /// # Errors
    /// What a request may meet; `NotFound`.
    pub async fn group(&self, conversation: ConversationId) -> Result<Group, ClientError> {
        let conversation = conversation.to_bytes();
        self.ask_group(What::GetGroup(wire::GetGroup { conversation })).await
    }

    /// Changes a group; the answer is the group as it is now.
    ///
    /// # Errors
    /// What a request may meet; `NotFound`, `Forbidden`, `LimitReached`, `Conflict`.
    pub async fn change_group(
        &self,
        conversation: ConversationId,
        command: GroupCommand,
    ) -> Result<Group, ClientError> {
        let what = Some(group_command(command)?);
        let conversation = conversation.to_bytes();
        self.ask_group(What::ChangeGroup(wire::ChangeGroup { conversation, what })).await
    }

    /// Joins a group, or asks to ([`Group::asked`] then).
    ///
    /// # Errors
    /// What a request may meet; `NotFound` (also: the link has ended), `Forbidden`, `LimitReached`.
    pub async fn join_group(&self, by: JoinBy) -> Result<Group, ClientError> {
        let request = match by {
            JoinBy::Asking(conversation, text) => {
                check::argument("text", text.len(), REQUEST_TEXT_BYTES_MAX)?;
                wire::JoinGroup {
                    conversation: conversation.to_bytes(),
                    text,
                    ..Default::default()
                }
            }
            JoinBy::Link(secret) => {
                let link = Bytes::copy_from_slice(secret.expose());
                wire::JoinGroup { link, ..Default::default() }
            }
        };
        self.ask_group(What::JoinGroup(request)).await
    }

    async fn ask_group(&self, request: What) -> Result<Group, ClientError> {
        let answer = self
            .shared()
            .request(request, |answer: &mut Option<Group>, _, what| match what {
                What::Group(said) => {
                    *answer = Some(group(said)?);
                    Ok(true)
                }
                _ => Err(unexpected()),
            })
            .await?;
        answer.ok_or_else(unexpected)
    }

    /// One page of a group's members; `page` is empty or [`Members::next_page`], `limit` at most
    /// 200, 0 for the server's choice.
    ///
    /// # Errors
    /// What a request may meet; `NotFound`.
    pub async fn members(
        &self,
        conversation: ConversationId,
        page: Bytes,
        limit: u32,
    ) -> Result<Members, ClientError> {
        let conversation = conversation.to_bytes();
        let request = What::ListMembers(wire::ListMembers { conversation, page, limit });
        let take = |answer: &mut Members, _, what| match what {
            What::MemberFound(said) if answer.members.len() < PAGE_MAX => {
                answer.members.push(member(said)?);
                Ok(false)
            }
            What::Done(done) => {
                answer.next_page = check::page(done.next_page)?;
                Ok(true)
            }
            _ => Err(unexpected()),
        };
        self.shared().request(request, take).await
    }

    /// One page of the requests to join a group, for its admins; pages as in [`Client::members`].
    ///
    /// # Errors
    /// What a request may meet; `NotFound`, `Forbidden`.
    pub async fn join_requests(
        &self,
        conversation: ConversationId,
        page: Bytes,
        limit: u32,
    ) -> Result<JoinRequests, ClientError> {
        let conversation = conversation.to_bytes();
        let request = What::ListJoinRequests(wire::ListJoinRequests { conversation, page, limit });
        let take = |answer: &mut JoinRequests, _, what| match what {
            What::JoinRequest(said) if answer.requests.len() < PAGE_MAX => {
                answer.requests.push(join_request(said)?);
                Ok(false)
            }
            What::Done(done) => {
                answer.next_page = check::page(done.next_page)?;
                Ok(true)
            }
            _ => Err(unexpected()),
        };
        self.shared().request(request, take).await
    }

    /// Who has read up to this entry, with where they stand; of conversations of at most 100 members.
    ///
    /// # Errors
    /// What a request may meet; `NotFound`, `LimitReached` for a larger group.
    pub async fn read_by(
        &self,
        conversation: ConversationId,
        seq: u64,
    ) -> Result<Vec<Receipt>, ClientError> {
        let request = What::ReadBy(wire::ReadBy { conversation: conversation.to_bytes(), seq });
        let take = |answer: &mut Vec<Receipt>, _, what| match what {
            What::Receipts(said) => {
                let members = incoming::receipts(&said.members).map_err(super::bad)?;
                let named = members.into_iter().filter_map(|receipt| receipt.of(None));
                let room = incoming::MEMBERS_MAX.saturating_sub(answer.len());
                answer.extend(named.take(room));
                Ok(false)
            }
            What::Done(_) => Ok(true),
            _ => Err(unexpected()),
        };
        self.shared().request(request, take).await
    }
}
