//! What the service is asked, and its answer as an input.

use std::time::Duration;

use bytes::Bytes;

use super::explain;
use crate::client::Client;
use crate::error::ClientError;
use crate::request::{AccountCommand, GroupProfile};
use crate::terminal::effect::{Answer, Ask, Input, Privately, ProfileChange};

/// Members of one page.
const MEMBERS_PAGE: u32 = 100;
/// Requests to join that are read of one group.
const JOIN_REQUESTS_PAGE: u32 = 200;
/// How often a link may be used: any number of times.
const LINK_USES: u32 = 0;

pub(super) async fn answer(client: &Client, ask: Ask) -> Input {
    carry_out(client, ask).await.unwrap_or_else(|error| Input::Said(explain(&error)))
}

async fn carry_out(client: &Client, ask: Ask) -> Result<Input, ClientError> {
    Ok(Input::Answered(match ask {
        Ask::Hide { conversation, seq } => {
            client.hide(conversation, &[seq]).await?;
            Answer::Hidden { conversation, seq }
        }
        Ask::ReadBy { conversation, seq } => {
            let readers = client.read_by(conversation, seq).await?;
            Answer::Readers(readers.into_iter().map(|receipt| receipt.user).collect())
        }
        Ask::NewGroup { name, users } => {
            Answer::Joined(client.create_group(GroupProfile::new(name), &users).await?)
        }
        Ask::ChangeGroup { conversation, command } => {
            Answer::Changed(client.change_group(conversation, command).await?)
        }
        Ask::ChangeProfile { conversation, change } => {
            // All fields are replaced: the others stay as they are.
            let mut profile = client.group(conversation).await?.profile;
            match change {
                ProfileChange::Name(name) => profile.name = name,
                ProfileChange::Muted(muted) => profile.muted = muted,
                ProfileChange::Joins(joins) => profile.joins = joins,
            }
            let command = crate::request::GroupCommand::Profile(profile);
            Answer::Changed(client.change_group(conversation, command).await?)
        }
        Ask::Join(by) => Answer::Joined(client.join_group(by).await?),
        Ask::Link(conversation) => {
            let link = client.make_link(conversation, Duration::ZERO, LINK_USES).await?;
            Answer::Link { conversation, link }
        }
        Ask::Members { conversation, page, is_shown } => {
            let members = client.members(conversation, page, MEMBERS_PAGE).await?;
            Answer::Members { conversation, members, is_shown }
        }
        Ask::JoinRequests(conversation) => {
            let page = client.join_requests(conversation, Bytes::new(), JOIN_REQUESTS_PAGE).await?;
            Answer::JoinRequests { conversation, requests: page.requests }
        }
        Ask::Contacts => {
            let contacts = client.all_contacts().await?;
            let from = client.own_log_cursor(contacts.head).await?;
            if let Err(error) = client.follow_own_log(from) {
                return Ok(Input::Said(error.to_string()));
            }
            Answer::Contacts(contacts)
        }
        Ask::ChangeContact { user, command } => {
            Answer::Contact(client.change_contact(user, command).await?)
        }
        Ask::Settings { conversation, settings } => {
            client.set_conversation(conversation, settings).await?;
            Answer::Settings { conversation, settings }
        }
        Ask::Devices => Answer::Devices(client.devices().await?),
        account => return of_account(client, account).await,
    }))
}

/// What changes the account; the answer is a word about it.
async fn of_account(client: &Client, ask: Ask) -> Result<Input, ClientError> {
    let said = match ask {
        Ask::Revoke(device) => {
            client.revoke_device(device).await?;
            "signed out for good"
        }
        Ask::Nick(nickname) => {
            let avatar = client.account().await?.user.avatar;
            client.change_account(AccountCommand::Person { nickname, avatar }).await?;
            "you are shown by that name now"
        }
        Ask::Privacy { what, audience } => {
            let mut privacy = client.account().await?.privacy;
            match what {
                Privately::Messages => privacy.messages = audience,
                Privately::Groups => privacy.groups = audience,
                Privately::Presence => privacy.presence = audience,
            }
            client.change_account(AccountCommand::Privacy(privacy)).await?;
            "that is so now"
        }
        Ask::Password { old, new } => {
            client.change_password(old.as_ref(), &new, false).await?;
            "the password is another one now"
        }
        // All others are carried out above.
        _ => "nothing was done",
    };
    Ok(Input::Said(said.to_owned()))
}
