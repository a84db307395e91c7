//! Writes the protocol's vectors: `cargo run -p petrel-proto --example write_vectors`.
//!
//! Ids and digests are computed here from the rules of docs/protocol.md, not by
//! `petrel-core`, which is checked against them in `petrel-tests`.

#[path = "../tests/vectors/json.rs"]
mod json;
mod vectors {
    pub(super) mod bodies;
    pub(super) mod events;
    pub(super) mod frames;
    pub(super) mod ids;
    pub(super) mod requests;
}

use anyhow::{Context, Result};
use petrel_proto::code::{Action, Code};
use serde_json::{Value, json};

fn main() -> Result<()> {
    write("frames.json", &vectors::frames::all()?)?;
    write("bodies.json", &vectors::bodies::all()?)?;
    write("events.json", &vectors::events::all()?)?;
    write("ids.json", &vectors::ids::all())?;
    write("codes.json", &codes())
}

fn write(file: &str, value: &Value) -> Result<()> {
    let path = format!("{}/vectors/{file}", env!("CARGO_MANIFEST_DIR"));
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    std::fs::write(&path, text).context(path)
}

fn codes() -> Value {
    let codes = Code::ALL.iter().map(|code| {
        let (action, after_ms) = match code.action() {
            _ if *code == Code::Ok => ("none", 0),
            Action::Retry { after_ms } => ("retry", after_ms),
            Action::Reconnect { after_ms } => ("reconnect", after_ms),
            Action::Reauthenticate => ("reauthenticate", 0),
            Action::GiveUp => ("give up", 0),
        };
        json!({
            "number": code.number(),
            "name": code.label().to_uppercase(),
            "action": action,
            "after_ms": after_ms,
        })
    });
    json!({ "codes": codes.collect::<Vec<_>>() })
}
