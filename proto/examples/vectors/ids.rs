//! Ids and digests, by the rules of docs/protocol.md.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::json::hex;

/// `ids.json`.
pub(crate) fn all() -> Value {
    json!({
        "pairs": pairs(),
        "message_ids": message_ids(),
        "cursors": cursors(),
        "digests": digests(),
    })
}

fn pairs() -> Vec<Value> {
    let users = [[0x01; 16], [0x02; 16], [0xff; 16], *b"0123456789abcdef", [0x00; 16]];
    let both = users.iter().zip(users.iter().skip(1));
    // Both ways round: the id is the same.
    both.flat_map(|(a, b)| [(a, b), (b, a)])
        .map(|(a, b)| {
            let mut hash = Sha256::new_with_prefix("petrel pair 1");
            hash.update(a.min(b));
            hash.update(a.max(b));
            let digest = hex(&hash.finalize());
            json!({ "a": hex(a), "b": hex(b), "conversation": digest[..32] })
        })
        .collect()
}

fn message_ids() -> Vec<Value> {
    let ids = [
        ("an id of 2026", "019ab0e1c2d37abc8123456789abcdef", Some(0x019a_b0e1_c2d3_u64)),
        ("RFC 9562, appendix A.6", "017f22e279b07cc398c4dc0c0c07398f", Some(0x017f_22e2_79b0)),
        ("time zero", "00000000000070008000000000000000", Some(0)),
        ("the last time of all", "ffffffffffff7fffbfffffffffffffff", Some((1 << 48) - 1)),
        ("version 4", "919108f752d143209bacf847db4148a8", None),
        ("another variant", "019ab0e1c2d37abcc123456789abcdef", None),
        ("all zeros", "00000000000000000000000000000000", None),
    ];
    ids.into_iter()
        .map(|(name, id, time_ms)| json!({ "name": name, "id": id, "time_ms": time_ms }))
        .collect()
}

/// The tail of a cursor that stands on the entry with this id and time.
fn cursors() -> Vec<Value> {
    let entries = [
        ("019ab0e1c2d37abc8123456789abcdef", 1_795_000_000_123_u64),
        ("019ab0e1c2d37abc8123456789abcdef", 1_795_000_000_124),
        ("019ab0e1c2d37abc8123456789abcdef", 0),
        ("00000000000070008000000000000000", (1 << 62) - 1),
    ];
    let tails = entries.into_iter().map(|(id, time_ms)| {
        let of_id = u64::from_str_radix(&id[16..], 16).unwrap_or_default();
        json!({ "id": id, "time_ms": time_ms, "tail": format!("{:016x}", of_id ^ time_ms) })
    });
    tails.collect()
}

fn digests() -> Vec<Value> {
    let messages: [(u16, u32, &[u8]); 5] = [
        (1, 0, b""),
        (1, 0, "hello, 世界".as_bytes()),
        (2, 0, "hello, 世界".as_bytes()),
        (1, 17, &[0x00, 0x58, 0x01, 0x00, 0x00]),
        (1, 1, &[0x00, 0x58, 0x01, 0x00, 0x00]),
    ];
    messages
        .into_iter()
        .map(|(kind, encoding, body)| {
            let mut hash = Sha256::new();
            hash.update(kind.to_be_bytes());
            hash.update(encoding.to_be_bytes());
            hash.update(body);
            json!({
                "entry_kind": kind,
                "encoding": encoding,
                "body": hex(body),
                "digest": hex(&hash.finalize()),
            })
        })
        .collect()
}
