//! Contacts and privacy.

use petrel_core::change::{Contact, Privacy};
use petrel_core::error::Rejection;
use petrel_core::relation::RelationCommand;
use petrel_core::store::User;
use petrel_proto::wire::{self, change_contact::What};

use super::{missing, user_found};

/// A contact as its owner sees it.
#[derive(Debug)]
pub(crate) struct ContactView<'a> {
    /// The other one.
    pub user: &'a User,
    /// The owner's side.
    pub contact: &'a Contact,
    /// Whether the other one follows the owner.
    pub is_followed: bool,
    /// Whether the owner blocks the other one.
    pub blocks: bool,
}

/// A contact.
pub(crate) fn contact(view: &ContactView<'_>) -> wire::Contact {
    let Contact { friendship, follows, remark, text, changed_ms } = view.contact;
    wire::Contact {
        user: Some(user_found(view.user)),
        friendship: friendship.number().into(),
        follows: *follows,
        is_followed: view.is_followed,
        blocks: view.blocks,
        remark: remark.clone(),
        text: text.clone(),
        changed_ms: *changed_ms,
    }
}

/// What a user lets others do.
pub(crate) fn privacy(privacy: Privacy) -> wire::Privacy {
    wire::Privacy {
        messages: privacy.messages.number().into(),
        groups: privacy.groups.number().into(),
        presence: privacy.presence.number().into(),
    }
}

/// What a user asks of his relation to another.
///
/// # Errors
/// [`Rejection::Invalid`] that names the field.
pub(crate) fn relation_command(what: Option<What>) -> Result<RelationCommand, Rejection> {
    Ok(match what.ok_or_else(|| missing("what"))? {
        What::Ask(text) => RelationCommand::Ask(text),
        What::Accept(true) => RelationCommand::Accept,
        What::Decline(true) => RelationCommand::Decline,
        What::Remove(true) => RelationCommand::Remove,
        What::Accept(false) | What::Decline(false) | What::Remove(false) => {
            return Err(Rejection::Invalid {
                field: "what",
                problem: "accept, decline and remove are true".to_owned(),
            });
        }
        What::Remark(remark) => RelationCommand::Remark(remark),
        What::Follow(follows) => RelationCommand::Follow(follows),
        What::Block(blocks) => RelationCommand::Block(blocks),
    })
}
