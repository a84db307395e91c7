//! Somebody decent beside what is bad: whether he still gets through.

use anyhow::Result;
use petrel_client::Identity;
use petrel_tests::cluster::{Gateway, Stage};
use petrel_tests::raw::{self, Raw, RawStream};

/// A conversation stream on which a good send still works.
pub struct Witness {
    pub gateway: Gateway,
    pub alice: Identity,
    pub bob: Identity,
    pub raw: Raw,
    _control: RawStream,
    pub stream: RawStream,
    pub number: u64,
}

impl Witness {
    pub async fn new(stage: &Stage, settings: &[&str]) -> Result<Self> {
        let gateway = stage.gateway(settings).await?;
        let alice = gateway.dialer()?.register("alice", "test").await?;
        let bob = gateway.dialer()?.register("bob", "test").await?;
        let (raw, control) = Raw::sign_in(&gateway, &alice).await?;
        let (stream, _) = raw.attach(raw::attach(alice.user, bob.user)).await?;
        Ok(Self { gateway, alice, bob, raw, _control: control, stream, number: 0 })
    }

    /// The connection lives, and a good send is stored.
    pub async fn is_well(&mut self) -> Result<()> {
        self.number += 1;
        let id = raw::message_id(raw::now_ms());
        self.stream.write(raw::send(self.number, id, b"good")).await?;
        self.stream.ack().await.map(drop)
    }

    /// A second stream of the same conversation would end the first: another conversation's.
    pub async fn other_stream(&self, peer: &Identity) -> Result<RawStream> {
        Ok(self.raw.attach(raw::attach(self.alice.user, peer.user)).await?.0)
    }
}
