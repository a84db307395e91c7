//! What becomes of clients' Typing.

use metrics::counter;

/// What became of a client's Typing.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Typing {
    /// The others were told.
    Told,
    /// It came too often.
    Limited,
    /// It is no Typing.
    Malformed,
    /// Nobody is to be told of it, or nobody is there.
    Refused,
    /// It waited too long for the store.
    Late,
}

impl Typing {
    const ALL: [Self; 5] = [Self::Told, Self::Limited, Self::Malformed, Self::Refused, Self::Late];

    fn label(self) -> &'static str {
        match self {
            Self::Told => "told",
            Self::Limited => "limited",
            Self::Malformed => "malformed",
            Self::Refused => "refused",
            Self::Late => "late",
        }
    }
}

/// A client's Typing came to this.
pub(crate) fn typing(result: Typing) {
    counter!("petrel_gateway_typing_total", "result" => result.label()).increment(1);
}

/// Shows all of them from the start.
pub(super) fn begin_at_zero() {
    for result in Typing::ALL {
        counter!("petrel_gateway_typing_total", "result" => result.label()).absolute(0);
    }
}
