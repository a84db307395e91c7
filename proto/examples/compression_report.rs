//! How small bodies get, and how long that takes.
//!
//! `cargo run --release -p petrel-proto --features sample-text --example compression_report -- [--bodies FILE]`
//! measures the held-out corpora, or each line of FILE. Ratio is total plain
//! bytes by total sent bytes, bodies that stay plain included. Times are
//! medians over single bodies, in turn, so that dictionaries change as in life.

#![allow(clippy::print_stdout, reason = "a tool that prints what it measured")]

use anyhow::{Context as _, bail, ensure};
use petrel_proto::compression::{
    BodyEncoding, DICTIONARIES, DictionaryVersion, decode, decoded_len, encode, encode_for,
};
use petrel_proto::sample_text::{Corpus, SampleText, Style};
use std::hint::black_box;
use std::time::Instant;

const BODIES: usize = 4000;
const ROUNDS: usize = 7;
const BODY_BYTES_MAX: usize = 64 << 10;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let corpora = match arguments.as_slice() {
        [] => held_out(),
        [flag, file] if flag == "--bodies" => {
            let text = std::fs::read_to_string(file).with_context(|| file.clone())?;
            let lines: Vec<String> = text.lines().map(str::to_owned).collect();
            ensure!(!lines.is_empty(), "{file} has no lines");
            vec![(file.clone(), lines)]
        }
        _ => bail!("usage: compression_report [--bodies FILE]"),
    };
    println!(
        "corpus, dictionary            mean B   ratio  plain %  compress ns  decode ns  length ns"
    );
    let all: Vec<u32> = DICTIONARIES.iter().map(|it| it.version.number()).collect();
    for (name, bodies) in &corpora {
        report(&format!("{name}, best suited"), bodies, &all)?;
        let general = [DictionaryVersion::GENERAL.number()];
        report(&format!("{name}, {general:?} alone"), bodies, &general)?;
        report(&format!("{name}, none"), bodies, &[])?;
    }
    Ok(())
}

fn held_out() -> Vec<(String, Vec<String>)> {
    [
        ("english", Style::English),
        ("chinese", Style::Chinese),
        ("mixed", Style::Mixed),
        ("json", Style::Json),
    ]
    .into_iter()
    .map(|(name, style)| {
        let mut text = SampleText::new(99, Corpus::HeldOut);
        let bodies = (0..BODIES).map(|_| text.message(style, 20, 300));
        (name.to_owned(), bodies.collect())
    })
    .collect()
}

fn report(name: &str, bodies: &[String], known: &[u32]) -> anyhow::Result<()> {
    let (mut plain_bytes, mut sent_bytes, mut left_plain) = (0, 0, 0);
    let (mut compress, mut decompress, mut length) = (Vec::new(), Vec::new(), Vec::new());
    // The first body of a thread makes its contexts and the shared tables.
    for version in known.iter().copied().filter_map(DictionaryVersion::new) {
        black_box(encode(b"warm", Some(version)));
    }
    for round in 0..ROUNDS {
        for body in bodies {
            let start = Instant::now();
            let encoded = black_box(encode_for(body.as_bytes(), known));
            compress.push(start.elapsed().as_nanos());

            let encoding = encoded.encoding.number();
            let start = Instant::now();
            let decoded = black_box(decode(encoding, &encoded.bytes, BODY_BYTES_MAX))?;
            decompress.push(start.elapsed().as_nanos());

            let start = Instant::now();
            let len = black_box(decoded_len(encoding, &encoded.bytes, BODY_BYTES_MAX))?;
            length.push(start.elapsed().as_nanos());

            ensure!(decoded == body.as_bytes() && len == body.len(), "round trip");
            ensure!(encoded.bytes.len() <= body.len(), "longer than plain");
            if round == 0 {
                plain_bytes += body.len();
                sent_bytes += encoded.bytes.len();
                left_plain += usize::from(encoded.encoding == BodyEncoding::Identity);
            }
        }
    }
    println!(
        "{name:29} {:6} {:>4}.{:02} {:>8} {:>12} {:>10} {:>10}",
        plain_bytes / bodies.len(),
        plain_bytes / sent_bytes.max(1),
        plain_bytes * 100 / sent_bytes.max(1) % 100,
        tenths(left_plain, bodies.len()),
        median(&mut compress),
        median(&mut decompress),
        median(&mut length),
    );
    Ok(())
}

/// `part` of `whole` in per cent, as text with one decimal.
fn tenths(part: usize, whole: usize) -> String {
    let thousandths = part * 1000 / whole.max(1);
    format!("{}.{}", thousandths / 10, thousandths % 10)
}

fn median(times: &mut [u128]) -> u128 {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or(0)
}
