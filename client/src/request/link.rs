//! Requests about links by which people join groups.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use petrel_proto::wire::{self, frame::What};

use super::check;
use super::unexpected;
use crate::client::Client;
use crate::error::ClientError;
use crate::id::{ConversationId, UserId};

/// Links of one group that are believed.
const LINKS_MAX: usize = 256;

/// What a link to a group consists of. Its `Debug` is redacted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct LinkSecret([u8; 32]);

impl LinkSecret {
    /// The secret with these bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Reads the 64 hexadecimal digits of [`Self::to_text`].
    pub fn from_text(text: &str) -> Option<Self> {
        crate::tls::hex_32(text).map(Self)
    }

    pub(super) fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// As 64 hexadecimal digits, to be handed on.
    pub fn to_text(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Debug for LinkSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LinkSecret(***)")
    }
}

/// A link by which people join.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Link {
    /// Only in the answer to [`Client::make_link`].
    pub secret: Option<LinkSecret>,
    /// SHA-256 of the secret; names the link.
    pub hash: [u8; 32],
    /// Who made it.
    pub by: UserId,
    /// When it ends, Unix milliseconds.
    pub expires_ms: u64,
    /// How often it may be used; 0: any number of times.
    pub uses_max: u32,
    /// How often it was.
    pub uses: u32,
}

fn link(said: wire::Link) -> Result<Link, ClientError> {
    let secret = (!said.secret.is_empty())
        .then(|| check::bytes_32("a link's secret", &said.secret).map(LinkSecret))
        .transpose()?;
    Ok(Link {
        secret,
        hash: check::bytes_32("a link's hash", &said.hash)?,
        by: check::user(&said.by)?,
        expires_ms: said.expires_ms,
        uses_max: said.uses_max,
        uses: said.uses,
    })
}

impl Client {
    /// Makes a link by which people join. It works for `life` (at most 30 days; zero: 7 days)
    /// and `uses_max` times (0: any number).
    ///
    /// # Errors
    /// What a request may meet; `Forbidden`, `LimitReached`.
    pub async fn make_link(
        &self,
        conversation: ConversationId,
        life: Duration,
        uses_max: u32,
    ) -> Result<Link, ClientError> {
        let request = What::MakeLink(wire::MakeLink {
            conversation: conversation.to_bytes(),
            expires_ms: u64::try_from(life.as_millis()).unwrap_or(u64::MAX),
            uses_max,
        });
        let answer = self
            .shared()
            .request(request, |answer: &mut Option<Link>, _, what| match what {
                What::Link(said) => {
                    *answer = Some(link(said)?);
                    Ok(true)
                }
                _ => Err(unexpected()),
            })
            .await?;
        answer.ok_or_else(unexpected)
    }

    /// Ends a link, named by [`Link::hash`].
    ///
    /// # Errors
    /// What a request may meet; `NotFound`, `Forbidden`.
    pub async fn revoke_link(
        &self,
        conversation: ConversationId,
        hash: [u8; 32],
    ) -> Result<(), ClientError> {
        let request = wire::RevokeLink {
            conversation: conversation.to_bytes(),
            hash: Bytes::copy_from_slice(&hash),
        };
        self.shared().request_done(What::RevokeLink(request)).await
    }

    /// The links of a group that work, without secrets.
    ///
    /// # Errors
    /// What a request may meet; `NotFound`, `Forbidden`.
    pub async fn links(&self, conversation: ConversationId) -> Result<Vec<Link>, ClientError> {
        let request = What::ListLinks(wire::ListLinks { conversation: conversation.to_bytes() });
        let take = |answer: &mut Vec<Link>, _, what| match what {
            What::Link(said) if answer.len() < LINKS_MAX => {
                answer.push(link(said)?);
                Ok(false)
            }
            What::Done(_) => Ok(true),
            _ => Err(unexpected()),
        };
        self.shared().request(request, take).await
    }
}
