//! Bodies in every encoding, and bodies that break a bound.

use anyhow::{Result, ensure};
use petrel_proto::compression::{self, BodyEncoding, DICTIONARIES, DictionaryVersion};
use serde_json::{Value, json};

use crate::json::hex;

const BODY_BYTES_MAX: usize = 64 * 1024;

const ENGLISH: &str =
    "Sorry, I'm running late. Could we meet at the station at half past six instead?";
const CHINESE: &str = "明天下午三点开会，别忘了带上周的报告，有问题随时给我打电话。";
const MIXED: &str = "好的，the meeting is moved to 15:30 👍 我马上把 slides 发给你们";
const OBJECT: &str = r#"{"type":"location","title":"Station Square","latitude":52.5251,"longitude":13.3694,"accuracy_m":12}"#;

/// `bodies.json`.
pub(crate) fn all() -> Result<Value> {
    Ok(json!({
        "dictionaries": dictionaries(),
        "bodies": bodies()?,
        "refused": refused(),
    }))
}

fn dictionaries() -> Vec<Value> {
    let listed = DICTIONARIES.iter().map(|dictionary| {
        json!({
            "version": dictionary.version.number(),
            "file": dictionary.file,
            "bytes": dictionary.bytes.len(),
            "sha256": dictionary.sha256,
        })
    });
    listed.collect()
}

fn bodies() -> Result<Vec<Value>> {
    let mut bodies = vec![
        json!({ "name": "nothing", "plain": "", "encoding": 0, "hex": "" }),
        json!({ "name": "plain text", "plain": MIXED, "encoding": 0, "hex": hex(MIXED.as_bytes()) }),
        json!({ "name": "plain bytes", "plain_hex": "00ff80fe", "encoding": 0, "hex": "00ff80fe" }),
    ];
    let repeated = vec![b'a'; BODY_BYTES_MAX];
    let encoded = compression::encode(&repeated, None);
    bodies.push(json!({
        "name": "as long as a body may be once decoded",
        "plain_repeated": { "byte": b'a', "times": BODY_BYTES_MAX },
        "encoding": encoded.encoding.number(),
        "hex": hex(&encoded.bytes),
    }));
    let thrice = ENGLISH.repeat(3);
    let none = [("zstd without a dictionary", thrice.as_str(), None)];
    let texts = [
        ("English", ENGLISH, DictionaryVersion::ENGLISH),
        ("Chinese", CHINESE, DictionaryVersion::CHINESE),
        ("mixed", MIXED, DictionaryVersion::GENERAL),
        ("JSON", OBJECT, DictionaryVersion::JSON),
        ("English with the general dictionary", ENGLISH, DictionaryVersion::GENERAL),
    ];
    let with = texts.into_iter().map(|(name, plain, version)| (name, plain, Some(version)));
    for (name, plain, version) in none.into_iter().chain(with) {
        let encoded = compression::encode(plain.as_bytes(), version);
        ensure!(encoded.encoding != BodyEncoding::Identity, "{name}: not smaller compressed");
        bodies.push(json!({
            "name": name,
            "plain": plain,
            "encoding": encoded.encoding.number(),
            "hex": hex(&encoded.bytes),
        }));
    }
    Ok(bodies)
}

fn refused() -> Vec<Value> {
    // Frame header: descriptor, window. Block header: 3 bytes, little-endian: last, type, size.
    let cases = [
        ("encoding 2", 2, "00", "unknown_encoding"),
        ("encoding 16: there is no dictionary 0", 16, "00", "unknown_encoding"),
        ("dictionary 99", 115, "00", "unknown_dictionary"),
        ("no bytes at all", 1, "", "truncated"),
        ("with the magic number that lean frames leave out", 1, "28b52ffd0050010000", "not_lean"),
        ("with a content size", 1, "2005290000", "not_lean"),
        ("a window above 1 MiB", 1, "0051010000", "window_too_large"),
        ("no block", 1, "0050", "truncated"),
        ("a block that is cut", 1, "0050290000616263", "truncated"),
        ("a reserved type of block", 1, "0050070000", "corrupt"),
        ("no last block", 1, "005008000061", "truncated"),
        ("a byte after the last block", 1, "005009000061ff", "trailing"),
        ("two frames", 1, "005009000061005009000061", "trailing"),
        ("one run of 65,537 bytes", 1, "00500b000861", "too_long"),
        ("two runs of 65,536 bytes", 1, "00500200086103000861", "too_long"),
        ("a compressed block of garbage", 1, "0050250000ffffffff", "corrupt"),
    ];
    cases
        .into_iter()
        .map(|(name, encoding, bytes, error)| {
            json!({
                "name": name,
                "encoding": encoding,
                "hex": bytes,
                "error": error,
                "code": petrel_proto::code::Code::BadBody.number(),
            })
        })
        .collect()
}
