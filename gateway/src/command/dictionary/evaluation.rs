//! What a dictionary is worth: bytes and time, beside the shipped ones and none.

use std::fmt::Write as _;
use std::hint::black_box;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use petrel_core::limits::BODY_DECODED_BYTES_MAX;
use petrel_proto::compression::{DictionaryVersion, Encoded, OwnDictionary, decode_with, encode};

/// Messages that are measured, at the most: more change no figure.
const MESSAGES_MAX: usize = 100_000;
/// Messages that run first: contexts and tables are made with the first ones.
const WARM_UP: usize = 200;

/// How bodies can be compressed.
#[derive(Clone, Copy)]
enum With {
    Own(OwnDictionary),
    BestShipped,
    General,
    Nothing,
}

struct Figures {
    sent_bytes: usize,
    /// Messages for which the compressed form was not smaller.
    left_plain: usize,
    compress_us: f64,
    decode_us: f64,
}

/// A table of what each way gives on these messages, and a sentence.
pub(super) fn told(own: OwnDictionary, messages: &[Vec<u8>], which: &str) -> Result<String> {
    let messages = messages.get(..MESSAGES_MAX).unwrap_or(messages);
    ensure!(!messages.is_empty(), "there is nothing to evaluate on: no messages {which}");
    let plain: usize = messages.iter().map(Vec::len).sum();
    let count = messages.len();
    let mut text = format!("{count} messages of {:.1} bytes ({which})\n\n", ratio(plain, count));
    let heads = ["ratio", "left plain", "bytes", "us to compress", "us to decode"];
    row(&mut text, "with", heads.map(str::to_owned));
    let ways = [
        (format!("dictionary {}", own.version()), With::Own(own)),
        ("best suited shipped".to_owned(), With::BestShipped),
        ("shipped dictionary 1".to_owned(), With::General),
        ("no dictionary".to_owned(), With::Nothing),
    ];
    let mut sent = Vec::new();
    for (name, way) in ways {
        let found = measure(way, messages, own)?;
        sent.push(found.sent_bytes);
        row(
            &mut text,
            &name,
            [
                format!("{:.2}", ratio(plain, found.sent_bytes)),
                format!("{:.1} %", 100.0 * ratio(found.left_plain, count)),
                format!("{:.1}", ratio(found.sent_bytes, count)),
                format!("{:.2}", found.compress_us),
                format!("{:.2}", found.decode_us),
            ],
        );
    }
    let share = 100.0 * (1.0 - ratio(sent[0], sent[1]));
    let worth = if share >= 1.0 {
        format!("It saves {share:.1} % of the bytes that the shipped ones would send.")
    } else {
        "It is no better than the shipped ones: keep those.".to_owned()
    };
    writeln!(text, "\n{worth}").context("text")?;
    Ok(text)
}

fn row(text: &mut String, name: &str, cells: [String; 5]) {
    let [a, b, c, d, e] = cells;
    // Writing to a String cannot fail.
    writeln!(text, "{name:<22} {a:>7} {b:>11} {c:>8} {d:>15} {e:>13}").ok();
}

fn measure(way: With, messages: &[Vec<u8>], own: OwnDictionary) -> Result<Figures> {
    for message in messages.iter().take(WARM_UP) {
        black_box(compress(way, message));
    }
    let started = Instant::now();
    let encoded: Vec<(u32, Bytes)> = messages.iter().map(|m| compress(way, m)).collect();
    let compress_us = started.elapsed().as_secs_f64() * 1e6 / messages.len() as f64;
    let started = Instant::now();
    for ((encoding, body), message) in encoded.iter().zip(messages) {
        let plain = decode_with(*encoding, body, BODY_DECODED_BYTES_MAX, &[own])?;
        ensure!(plain == *message, "a message of {} bytes did not come back whole", message.len());
    }
    let decode_us = started.elapsed().as_secs_f64() * 1e6 / messages.len() as f64;
    Ok(Figures {
        sent_bytes: encoded.iter().map(|(_, body)| body.len()).sum(),
        left_plain: encoded.iter().filter(|(encoding, _)| *encoding == 0).count(),
        compress_us,
        decode_us,
    })
}

fn compress(way: With, plain: &[u8]) -> (u32, Bytes) {
    let shipped = |version| {
        let Encoded { encoding, bytes } = encode(plain, version);
        (encoding.number(), bytes)
    };
    match way {
        With::Own(own) => own.encode(plain),
        With::BestShipped => shipped(Some(DictionaryVersion::suited_to(plain))),
        With::General => shipped(Some(DictionaryVersion::GENERAL)),
        With::Nothing => shipped(None),
    }
}

fn ratio(part: usize, whole: usize) -> f64 {
    part as f64 / whole.max(1) as f64
}
