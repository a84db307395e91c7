//! Why something did not work, sorted by who has to act.

use petrel_proto::code::Code;

/// Why a request, a dial or a start did not work.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ClientError {
    /// The application's side: an option, a file or an argument is not usable.
    #[error("{0}")]
    Invalid(String),
    /// The server's name has no address.
    #[error("cannot resolve {server}: {why}")]
    Resolve {
        /// What was to be resolved.
        server: String,
        /// What the resolver said.
        why: String,
    },
    /// No connection, or it was lost on the way.
    #[error("no connection: {0}")]
    Connection(String),
    /// The server said no.
    #[error("refused: {code}{}{text}", if text.is_empty() { "" } else { ": " })]
    Refused {
        /// Which of the protocol's codes; one that this version does not know is [`Code::Internal`].
        code: Code,
        /// What was wrong, for people.
        text: String,
        /// When the server says that trying again makes sense, in milliseconds; 0: the code's default.
        retry_after_ms: u32,
    },
    /// The server answered with something that has no place there.
    #[error("unexpected answer: {0}")]
    Protocol(String),
    /// No answer in time.
    #[error("no answer in time")]
    TimedOut,
    /// The client was closed, or has given up (the last Offline event says why).
    #[error("the client is closed")]
    Closed,
}

impl ClientError {
    /// The code, if the server refused.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }
}

/// Why a message did not go into the outbox.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SendError {
    /// Too many messages or bytes have no answer yet.
    #[error("the outbox is full")]
    OutboxFull,
    /// The body is larger than the protocol allows.
    #[error("a body of {len} bytes; at most {max} are allowed")]
    TooLarge {
        /// Its bytes.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// The server would refuse it.
    #[error("{0}")]
    Invalid(&'static str),
    /// More conversations than the client keeps state of.
    #[error("too many conversations")]
    TooManyConversations,
    /// The client was closed, or has given up.
    #[error("the client is closed")]
    Closed,
}

/// Why [`crate::Client::send_and_wait`] has no place in the conversation to tell.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SendOutcomeError {
    /// It did not go into the outbox.
    #[error(transparent)]
    NotQueued(#[from] SendError),
    /// The server refused it for good.
    #[error("refused: {0:?}")]
    Refused(crate::Refused),
    /// The client was closed before an answer came; a file outbox keeps the message.
    #[error("the client was closed before an answer came")]
    Closed,
}
