//! Trains the shipped dictionaries from the project's own text.
//!
//! `cargo run --release -p petrel-proto --features sample-text --example train_dictionary -- DIR`
//! writes them into DIR. The same sources always give the same bytes. What is
//! shipped stays: a better dictionary gets a new version, never an old file.

#![allow(clippy::print_stdout, reason = "a tool that prints what it made")]

use anyhow::Context as _;
use petrel_proto::compression::training::with_literals_of;
use petrel_proto::sample_text::{Corpus, SampleText, Style};
use sha2::{Digest as _, Sha256};
use std::path::Path;

const DICTIONARY_BYTES: usize = 64 << 10;
const CONTENT_SAMPLES: usize = 60_000;
const LITERAL_SAMPLES: usize = 20_000;

struct Recipe {
    file: &'static str,
    /// Percent of English, Chinese, mixed messages and JSON.
    content: [usize; 4],
    literals: [usize; 4],
    /// How much the dictionary knew whose literal table is taken.
    literal_dictionary_bytes: usize,
}

const RECIPES: [Recipe; 4] = [
    Recipe {
        file: "chat-1.dict",
        content: [30, 45, 10, 15],
        literals: [30, 55, 0, 15],
        literal_dictionary_bytes: 4 << 10,
    },
    Recipe {
        file: "english-2.dict",
        content: [95, 0, 5, 0],
        literals: [95, 0, 5, 0],
        literal_dictionary_bytes: 2 << 10,
    },
    Recipe {
        file: "chinese-3.dict",
        content: [0, 95, 5, 0],
        literals: [0, 95, 5, 0],
        literal_dictionary_bytes: 1 << 10,
    },
    Recipe {
        file: "json-4.dict",
        content: [10, 5, 0, 85],
        literals: [10, 5, 0, 85],
        literal_dictionary_bytes: 4 << 10,
    },
];

fn main() -> anyhow::Result<()> {
    let directory = std::env::args().nth(1).context("say where to write")?;
    for recipe in &RECIPES {
        let dictionary = train(recipe)?;
        let path = Path::new(&directory).join(recipe.file);
        std::fs::write(&path, &dictionary).with_context(|| path.display().to_string())?;
        print!("{} {} bytes, sha256 ", recipe.file, dictionary.len());
        for byte in Sha256::digest(&dictionary) {
            print!("{byte:02x}");
        }
        println!();
    }
    Ok(())
}

fn train(recipe: &Recipe) -> anyhow::Result<Vec<u8>> {
    let known = samples(2, recipe.content, CONTENT_SAMPLES);
    let large = zstd::dict::from_samples(&known, DICTIONARY_BYTES)?;
    let other = samples(3, recipe.literals, LITERAL_SAMPLES);
    let small = zstd::dict::from_samples(&other, recipe.literal_dictionary_bytes)?;

    Ok(with_literals_of(&large, &small, DICTIONARY_BYTES)?)
}

fn samples(seed: u64, percent: [usize; 4], count: usize) -> Vec<String> {
    const STYLES: [Style; 4] = [Style::English, Style::Chinese, Style::Mixed, Style::Json];
    let mut text = SampleText::new(seed, Corpus::Training);
    // 37 and 100 have no common factor, so each hundred has every share.
    let mut styles = (0..100)
        .map(|at| {
            let mut place = at * 37 % 100;
            for (style, share) in STYLES.into_iter().zip(percent) {
                if place < share {
                    return style;
                }
                place -= share;
            }
            Style::Mixed
        })
        .collect::<Vec<_>>()
        .into_iter()
        .cycle();
    (0..count).map(|_| text.message(styles.next().unwrap_or(Style::Mixed), 20, 300)).collect()
}
