//! Whose presence is watched: of those in the list, and friends.

use super::Effect;
use crate::id::UserId;
use crate::request::Friendship;
use crate::terminal::model::{Model, PRESENT_MAX};

/// Names whom to watch, if they are others than before.
pub(super) fn watch(model: &mut Model) -> Option<Effect> {
    let of_list = model.order.iter().filter_map(|id| model.conversations.get(id)?.to.peer);
    let mut wanted: Vec<UserId> = of_list.take(PRESENT_MAX).collect();
    let mut friends: Vec<UserId> = model
        .people
        .relations()
        .filter(|(_, relation)| relation.friendship == Friendship::Friends)
        .map(|(user, _)| user)
        .collect();
    friends.sort_unstable();
    friends.truncate(PRESENT_MAX.saturating_sub(wanted.len()));
    wanted.extend(friends);
    wanted.sort_unstable();
    wanted.dedup();
    if wanted == model.watched {
        return None;
    }
    model.present.retain(|user, _| wanted.binary_search(user).is_ok());
    model.watched.clone_from(&wanted);
    Some(Effect::Watch(wanted))
}
