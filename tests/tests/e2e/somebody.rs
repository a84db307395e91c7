//! A person by hand: signed in over a raw connection, with the requests of groups and contacts.

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use petrel_client::{Identity, UserId};
use petrel_proto::code::Code;
use petrel_proto::wire::{self, Frame, change_contact, change_group, event, frame::What};
use petrel_tests::cluster::Gateway;
use petrel_tests::raw::{self, Raw, RawOptions, RawStream};
use prost::Message as _;

/// What became of a request: its first answer, or the code of its refusal.
pub type Answered = Result<What, Code>;

/// A person.
pub struct Somebody {
    pub identity: Identity,
    pub raw: Raw,
    pub control: RawStream,
}

impl Somebody {
    pub async fn new(gateway: &Gateway, name: &str) -> Result<Self> {
        let identity = gateway.dialer()?.register(name, "test").await?;
        Self::signed_in(gateway, identity).await
    }

    pub async fn signed_in(gateway: &Gateway, identity: Identity) -> Result<Self> {
        Self::signed_in_with(gateway, identity, &RawOptions::default()).await
    }

    pub async fn signed_in_with(
        gateway: &Gateway,
        identity: Identity,
        options: &RawOptions,
    ) -> Result<Self> {
        let (raw, control) = Raw::sign_in_with(gateway, &identity, options).await?;
        Ok(Self { identity, raw, control })
    }

    pub fn user(&self) -> UserId {
        self.identity.user
    }

    pub fn id(&self) -> Bytes {
        Bytes::copy_from_slice(&self.identity.user.0)
    }

    /// All answers to a request that carries this id.
    pub async fn ask_named(&self, id: [u8; 16], what: What) -> Result<Vec<What>> {
        let mut stream = self.raw.open().await?;
        let id = Bytes::copy_from_slice(&id);
        stream.write(Frame { id, what: Some(what), ..Frame::default() }).await?;
        stream.send.finish().ok();
        let mut answers = Vec::new();
        while let Some((_, answer)) = stream.next().await? {
            answers.push(answer);
        }
        Ok(answers)
    }

    /// All answers to a request.
    pub async fn ask_all(&self, what: What) -> Result<Vec<What>> {
        self.ask_named(raw::message_id(raw::now_ms()), what).await
    }

    /// The first answer to a request.
    pub async fn ask(&self, what: What) -> Result<Answered> {
        first(self.ask_all(what).await?)
    }

    pub async fn create(&self, profile: wire::GroupProfile, users: &[&Self]) -> Result<Bytes> {
        let users = users.iter().map(|user| user.id()).collect();
        let create = wire::CreateGroup { profile: Some(profile), users };
        match self.ask(What::CreateGroup(create)).await? {
            Ok(What::Group(group)) => Ok(group.conversation),
            other => bail!("instead of the group: {other:?}"),
        }
    }

    pub async fn change(
        &self,
        group: &Bytes,
        what: change_group::What,
    ) -> Result<Result<wire::Group, Code>> {
        let change = wire::ChangeGroup { conversation: group.clone(), what: Some(what) };
        group_of(self.ask(What::ChangeGroup(change)).await?)
    }

    pub async fn join(&self, join: wire::JoinGroup) -> Result<Result<wire::Group, Code>> {
        group_of(self.ask(What::JoinGroup(join)).await?)
    }

    pub async fn contact(
        &self,
        other: &Self,
        what: change_contact::What,
    ) -> Result<Result<wire::Contact, Code>> {
        let change = wire::ChangeContact { user: other.id(), what: Some(what) };
        match self.ask(What::ChangeContact(change)).await? {
            Ok(What::Contact(contact)) => Ok(Ok(contact)),
            Err(code) => Ok(Err(code)),
            other => bail!("instead of a contact: {other:?}"),
        }
    }

    /// A part of a conversation's log, from here to its end.
    pub async fn history(&self, conversation: &Bytes, from: u64) -> Result<Vec<(Frame, What)>> {
        let read = wire::ReadHistory {
            conversation: conversation.clone(),
            from,
            limit: 200,
            ..wire::ReadHistory::default()
        };
        self.raw.ask(What::ReadHistory(read)).await
    }

    /// Attaches a conversation from nothing.
    pub async fn open(&self, conversation: &Bytes) -> Result<RawStream> {
        Ok(self.raw.attach(from_nothing(conversation)).await?.0)
    }

    /// The user's own log, from nothing.
    pub async fn own_log(&self) -> Result<RawStream> {
        let log =
            petrel_core::id::ConversationId::of_user(petrel_core::id::UserId(self.identity.user.0));
        self.open(&Bytes::copy_from_slice(log.as_bytes())).await
    }
}

pub fn from_nothing(conversation: &Bytes) -> wire::Attach {
    wire::Attach { conversation: conversation.clone(), ..wire::Attach::default() }
}

pub fn first(answers: Vec<What>) -> Result<Answered> {
    match answers.into_iter().next().context("no answer")? {
        What::Refusal(refusal) => {
            let code = Code::ALL.iter().find(|code| code.number() == refusal.code);
            Ok(Err(*code.context("no such code")?))
        }
        what => Ok(Ok(what)),
    }
}

fn group_of(answered: Answered) -> Result<Result<wire::Group, Code>> {
    match answered {
        Ok(What::Group(group)) => Ok(Ok(group)),
        Err(code) => Ok(Err(code)),
        Ok(other) => bail!("instead of a group: {other:?}"),
    }
}

pub fn named(name: &str) -> wire::GroupProfile {
    wire::GroupProfile { name: name.to_owned(), ..wire::GroupProfile::default() }
}

pub fn users(users: &[&Somebody]) -> wire::UserIds {
    wire::UserIds { users: users.iter().map(|user| user.id()).collect() }
}

/// The next entry of a stream, and what it tells if it is an event.
pub async fn next_entry(stream: &mut RawStream) -> Result<(Frame, Option<event::What>)> {
    loop {
        match stream.next().await?.context("the stream has ended")? {
            (frame, What::Push(_)) => {
                let event = match frame.entry_kind {
                    48.. => wire::Event::decode(frame.body.clone())?.what,
                    _ => None,
                };
                return Ok((frame, event));
            }
            (_, What::Receipts(_) | What::Preview(_)) => {}
            (_, other) => bail!("instead of an entry: {other:?}"),
        }
    }
}

/// The stream ends with this refusal after these entries.
pub async fn ends_after(stream: &mut RawStream, expected: &[u64], code: Code) -> Result<()> {
    let mut seqs = Vec::new();
    loop {
        match stream.next().await? {
            Some((frame, What::Push(_))) => seqs.push(frame.seq),
            Some((_, What::Refusal(refusal))) => {
                assert_eq!(refusal.code, code.number(), "{refusal:?}");
                break;
            }
            Some((_, What::Receipts(_) | What::Preview(_) | What::Ack(_))) => {}
            other => bail!("after {seqs:?}: {other:?}"),
        }
    }
    assert_eq!(seqs, expected);
    assert!(stream.next().await?.is_none(), "it goes on");
    Ok(())
}

/// A Send of this kind about an entry.
pub fn change(number: u64, kind: u32, target: u64, body: &[u8]) -> Frame {
    let id = raw::message_id(raw::now_ms());
    Frame { entry_kind: kind, target, ..raw::send(number, id, body) }
}
