//! One table of codes: in `Refusal`, as the application error code of a stream
//! reset, and as that of a connection close.

use std::fmt;

/// What a client does about a code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Try the same again, after the given time.
    Retry {
        /// Milliseconds, unless the refusal itself names a time.
        after_ms: u32,
    },
    /// Connect anew, after the given time (jittered), and go on.
    Reconnect {
        /// Milliseconds.
        after_ms: u32,
    },
    /// Get a new token, then go on.
    Reauthenticate,
    /// The same again will be refused again.
    GiveUp,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $label:literal, $action:expr;)*) => {
        /// A code of the table.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u32)]
        pub enum Code {
            $($(#[$doc])* $name = $number,)*
        }

        impl Code {
            /// Every code, by rising number.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The code's name in logs and metrics.
            pub fn label(self) -> &'static str {
                match self { $(Self::$name => $label,)* }
            }

            /// What a client does about it.
            pub fn action(self) -> Action {
                match self { $(Self::$name => $action,)* }
            }
        }
    };
}

codes! {
    /// An orderly end.
    Ok = 0, "ok", Action::GiveUp;

    /// A frame that cannot be decoded.
    Malformed = 10, "malformed", Action::GiveUp;
    /// A frame or field over its limit.
    TooLarge = 11, "too_large", Action::GiveUp;
    /// A frame that is unknown, or has no place here.
    Unexpected = 12, "unexpected", Action::GiveUp;
    /// A field with a value that is not allowed.
    Invalid = 13, "invalid", Action::GiveUp;
    /// No such thing, or not yours to know of.
    NotFound = 14, "not_found", Action::GiveUp;
    /// One of the two has blocked the other.
    Blocked = 15, "blocked", Action::GiveUp;
    /// The id is older than the deduplication horizon: no longer known.
    TooOld = 16, "too_old", Action::GiveUp;
    /// The id is ahead of the server's time.
    FromTheFuture = 17, "from_the_future", Action::GiveUp;
    /// The id stands for other content.
    IdConflict = 18, "id_conflict", Action::GiveUp;
    /// The body cannot be decoded within its bounds.
    BadBody = 19, "bad_body", Action::GiveUp;
    /// The user name is taken.
    NameTaken = 20, "name_taken", Action::GiveUp;
    /// Unknown device, or wrong secret.
    WrongSecret = 21, "wrong_secret", Action::GiveUp;
    /// The caller's role does not allow it.
    Forbidden = 22, "forbidden", Action::GiveUp;
    /// The sender, or the whole group, may not write for a while.
    Muted = 23, "muted", Action::GiveUp;
    /// The other one takes this from contacts only, or nothing more from strangers.
    NotAccepted = 24, "not_accepted", Action::GiveUp;
    /// Something is full for good: members of a group, devices of a user.
    LimitReached = 25, "limit_reached", Action::GiveUp;
    /// Somebody changed it meanwhile: look again, then decide anew.
    Conflict = 26, "conflict", Action::GiveUp;
    /// The time in which this was possible is over.
    TooLate = 27, "too_late", Action::GiveUp;

    /// A bounded queue stayed full.
    Overloaded = 40, "overloaded", Action::Retry { after_ms: 500 };
    /// Over the rate.
    RateLimited = 41, "rate_limited", Action::Retry { after_ms: 1000 };
    /// An earlier send on this stream has to come first.
    Predecessor = 42, "predecessor", Action::Retry { after_ms: 0 };
    /// The store cannot answer now.
    Unavailable = 43, "unavailable", Action::Retry { after_ms: 500 };
    /// More streams or requests at once than allowed.
    TooManyStreams = 44, "too_many_streams", Action::Retry { after_ms: 200 };

    /// The token has expired.
    Reauthenticate = 60, "reauthenticate", Action::Reauthenticate;
    /// The token is forged, foreign or unreadable.
    TokenInvalid = 61, "token_invalid", Action::GiveUp;
    /// The device was signed out for good.
    Revoked = 62, "revoked", Action::GiveUp;

    /// The gateway is going away.
    GoingAway = 80, "going_away", Action::Reconnect { after_ms: 100 };
    /// The session did not read what was sent to it.
    SlowConsumer = 81, "slow_consumer", Action::Reconnect { after_ms: 1000 };
    /// Nobody signed in within the time allowed.
    SignInTimeout = 82, "sign_in_timeout", Action::Reconnect { after_ms: 1000 };
    /// A newer stream of the same conversation, or session of the same device, took over.
    Superseded = 83, "superseded", Action::GiveUp;
    /// The peer broke the protocol in a way that ends the connection.
    ProtocolViolation = 84, "protocol_violation", Action::GiveUp;
    /// More connections than the gateway takes.
    TooManyConnections = 85, "too_many_connections", Action::Reconnect { after_ms: 2000 };

    /// Something failed on the server's side.
    Internal = 99, "internal", Action::Retry { after_ms: 1000 };
}

impl Code {
    /// The number on the wire.
    pub fn number(self) -> u32 {
        self as u32
    }

    /// The code with this number. A number that this version does not know is
    /// treated as [`Code::Internal`] by those who have to act on it.
    pub fn from_number(number: u64) -> Option<Self> {
        Self::ALL.iter().copied().find(|c| u64::from(c.number()) == number)
    }

    /// Whether the same send or request may succeed later.
    pub fn is_retryable(self) -> bool {
        !matches!(self.action(), Action::GiveUp)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_labels_are_unique_and_rise() {
        for pair in Code::ALL.windows(2) {
            assert!(pair[0].number() < pair[1].number());
            assert_ne!(pair[0].label(), pair[1].label());
        }
        for code in Code::ALL {
            assert_eq!(Code::from_number(code.number().into()), Some(*code));
        }
        assert_eq!(Code::from_number(7), None);
    }
}
