//! Why something was not done: a [`Rejection`] is the caller's to act on; a
//! `Failure` (in [`crate::store`]) is ours.

/// A refusal that the caller can understand and act on. Each becomes one code
/// of the wire's table (docs/protocol.md, "Codes").
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Rejection {
    /// A field has a value that is not allowed.
    #[error("{field}: {problem}")]
    Invalid {
        /// The field that is wrong.
        field: &'static str,
        /// What is wrong with it, with the allowed range.
        problem: String,
    },
    /// No such conversation, or the caller is no member of it: the same
    /// answer, so that nobody learns which.
    #[error("no such conversation, or you are no member of it")]
    NotFound,
    /// The other side has blocked the sender, or the sender has blocked it.
    #[error("blocked")]
    Blocked,
    /// The message's id is older than the deduplication horizon: whether it is
    /// stored is no longer known.
    #[error(
        "the message's id is older than the deduplication horizon; whether it was stored is no longer known"
    )]
    TooOld,
    /// The message's id is ahead of the server's time.
    #[error("the message's id is ahead of the server's time ({server_time_ms} ms since 1970)")]
    FromTheFuture {
        /// The server's Unix time in milliseconds.
        server_time_ms: u64,
    },
    /// The id was used before for other content.
    #[error("this message id was used before for other content")]
    IdConflict,
    /// The user name is taken.
    #[error("the user name is taken")]
    NameTaken,
    /// The device or its secret, the user name or the password is wrong: the same answer, so that
    /// nobody learns which.
    #[error("unknown device or user, or wrong secret or password")]
    WrongSecret,
    /// The body cannot be decoded within its bounds.
    #[error("body: {problem}")]
    BadBody {
        /// What is wrong with it.
        problem: String,
    },
    /// The caller's role does not allow it.
    #[error("not allowed: {needed}")]
    Forbidden {
        /// Who may.
        needed: &'static str,
    },
    /// The sender may not write for a while, or the whole group may not.
    #[error("muted until {until_ms} ms since 1970 (0: until it is lifted)")]
    Muted {
        /// Unix milliseconds.
        until_ms: u64,
    },
    /// The other one takes this from contacts only, or nothing more from strangers.
    #[error("not accepted: {why}")]
    NotAccepted {
        /// What the other one's settings say.
        why: &'static str,
    },
    /// Something is full for good: members of a group, devices of a user.
    #[error("{what}: {max} at the most")]
    LimitReached {
        /// What there is too much of.
        what: &'static str,
        /// How many are allowed.
        max: u64,
    },
    /// Somebody changed it meanwhile: look again, then decide anew.
    #[error("{what} has changed meanwhile")]
    Conflict {
        /// What has.
        what: &'static str,
    },
    /// The time in which this was possible is over.
    #[error("too late: {what} is possible for {window_ms} ms")]
    TooLate {
        /// What.
        what: &'static str,
        /// For how long, in milliseconds.
        window_ms: u64,
    },
    /// The device was signed out for good.
    #[error("this device was revoked")]
    Revoked,
    /// The sender is over its rate.
    #[error("too many requests; try again in {retry_after_ms} ms")]
    RateLimited {
        /// When to try again.
        retry_after_ms: u64,
    },
    /// A bounded queue stayed full until the deadline.
    #[error("overloaded: {what} is full")]
    Overloaded {
        /// The queue that is full.
        what: &'static str,
    },
    /// More conversations at once than a session may have open.
    #[error("too many streams: {max} at the most")]
    TooManyStreams {
        /// How many are allowed.
        max: u64,
    },
    /// The store cannot answer now.
    #[error("the store cannot be reached; try again")]
    Unavailable,
    /// An earlier send on this stream was refused and has to come again first.
    #[error("send number {expected} has to come first")]
    Predecessor {
        /// The number that is expected next on this stream.
        expected: u64,
    },
    /// The token has expired.
    #[error("the token has expired")]
    Reauthenticate,
    /// The token is not one of ours: forged, for another service, or unreadable.
    #[error("the token is not valid: {problem}")]
    TokenInvalid {
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The gateway is going down.
    #[error("the gateway is going away")]
    GoingAway,
    /// Something failed on our side that trying again will not mend.
    #[error("internal error")]
    Internal,
}

impl Rejection {
    /// Whether the same send may be accepted later. A send that is refused for
    /// good uses its number up; after one that is not, the sender's following
    /// ones are refused too, until it comes again. (The wire's table of codes
    /// says the same.)
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::RateLimited { .. }
            | Self::Overloaded { .. }
            | Self::TooManyStreams { .. }
            | Self::Unavailable
            | Self::Predecessor { .. }
            | Self::Reauthenticate
            | Self::GoingAway
            | Self::Internal => true,
            Self::Invalid { .. }
            | Self::NotFound
            | Self::Blocked
            | Self::TooOld
            | Self::FromTheFuture { .. }
            | Self::IdConflict
            | Self::NameTaken
            | Self::WrongSecret
            | Self::BadBody { .. }
            | Self::Forbidden { .. }
            | Self::Muted { .. }
            | Self::NotAccepted { .. }
            | Self::LimitReached { .. }
            | Self::Conflict { .. }
            | Self::TooLate { .. }
            | Self::Revoked
            | Self::TokenInvalid { .. } => false,
        }
    }
}
