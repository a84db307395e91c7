//! What the service is asked, and its answer as an input.

use super::explain;
use crate::client::Client;
use crate::error::ClientError;
use crate::terminal::update::{Ask, Input};

pub(super) async fn answer(client: &Client, ask: Ask) -> Input {
    carry_out(client, ask).await.unwrap_or_else(|error| Input::Said(explain(&error)))
}

async fn carry_out(client: &Client, ask: Ask) -> Result<Input, ClientError> {
    Ok(match ask {
        Ask::Hide { conversation, seq } => {
            client.hide(conversation, &[seq]).await?;
            Input::Hidden { conversation, seq }
        }
        Ask::ReadBy { conversation, seq } => {
            let readers = client.read_by(conversation, seq).await?;
            Input::Readers(readers.into_iter().map(|receipt| receipt.user).collect())
        }
    })
}
