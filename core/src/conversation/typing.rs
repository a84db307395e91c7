//! Who is told that somebody types.

use super::Conversation;
use crate::change::{Audience, Role};
use crate::id::UserId;
use crate::limits;
use crate::store::{ConversationKind, Member};

impl<O> Conversation<O> {
    /// The other members, who are told that `user` types at Unix time `now_ms`; `shown` is to whom he
    /// shows that he is there. Nobody, where he may not write or the members are too many.
    pub fn told_of_typing(
        &self,
        user: UserId,
        shown: Audience,
        now_ms: u64,
    ) -> impl Iterator<Item = UserId> + '_ {
        let told = self.members.len() <= limits::TYPING_MEMBERS_MAX
            && self.member(user).is_ok_and(|typist| self.shows_typing(typist, shown, now_ms));
        self.members().filter(move |other| told && *other != user)
    }

    fn shows_typing(&self, typist: &Member, shown: Audience, now_ms: u64) -> bool {
        match &self.kind {
            ConversationKind::Own => false,
            ConversationKind::Pair => {
                let is_let_in =
                    |m: &Member| m.user == typist.user || (m.accepts && shown.admits(m.is_contact));
                self.members.iter().all(|m| !m.blocks && is_let_in(m))
            }
            // Who of a group is a contact is not known here.
            ConversationKind::Group(profile) => {
                let is_muted =
                    typist.muted_until_ms > now_ms || (profile.muted && typist.role < Role::Admin);
                shown.admits(false) && !is_muted
            }
        }
    }
}
