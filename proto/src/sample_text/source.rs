//! The word lists, read once.

use super::Corpus;
use std::collections::HashMap;
use std::sync::LazyLock;

macro_rules! list {
    ($name:literal) => {
        include_str!(concat!("../../dictionaries/source/", $name))
    };
}

/// Sentences, words and shapes of one corpus.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) en_sentences: Vec<&'static str>,
    pub(super) en_words: Vec<&'static str>,
    pub(super) zh_sentences: Vec<&'static str>,
    pub(super) zh_words: Vec<&'static str>,
    pub(super) json_shapes: Vec<&'static str>,
    pub(super) json_pairs: Vec<&'static str>,
    pub(super) emoji: Vec<&'static str>,
    en_slots: Slots,
    zh_slots: Slots,
    json_slots: Slots,
}

type Slots = HashMap<&'static str, Vec<&'static str>>;

static TRAINING: LazyLock<Source> = LazyLock::new(|| Source {
    en_sentences: lines(list!("en-sentences.txt")),
    en_words: list!("en-words.txt").split_whitespace().collect(),
    zh_sentences: lines(list!("zh-sentences.txt")),
    zh_words: list!("zh-words.txt").split_whitespace().collect(),
    json_shapes: lines(list!("json-shapes.txt")),
    json_pairs: lines(list!("json-pairs.txt")),
    ..Source::slots_only()
});

static HELD_OUT: LazyLock<Source> = LazyLock::new(|| Source {
    en_sentences: lines(list!("heldout-en.txt")),
    zh_sentences: lines(list!("heldout-zh.txt")),
    json_shapes: lines(list!("heldout-json.txt")),
    ..Source::slots_only()
});

impl Source {
    pub(super) fn of(corpus: Corpus) -> &'static Self {
        match corpus {
            Corpus::Training => &TRAINING,
            Corpus::HeldOut => &HELD_OUT,
        }
    }

    /// What may stand in `slot`; empty if the lists do not know it.
    pub(super) fn choices(&self, language: Language, slot: &str) -> &[&'static str] {
        let slots = match language {
            Language::English => &self.en_slots,
            Language::Chinese => &self.zh_slots,
            Language::Json => &self.json_slots,
        };
        slots.get(slot).map_or(&[], Vec::as_slice)
    }

    fn slots_only() -> Self {
        Self {
            en_sentences: Vec::new(),
            en_words: Vec::new(),
            zh_sentences: Vec::new(),
            zh_words: Vec::new(),
            json_shapes: Vec::new(),
            json_pairs: Vec::new(),
            emoji: list!("emoji.txt").split_whitespace().collect(),
            en_slots: sections(list!("en-slots.txt")),
            zh_slots: sections(list!("zh-slots.txt")),
            json_slots: sections(list!("json-values.txt")),
        }
    }
}

/// Which slot lists apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Language {
    English,
    Chinese,
    Json,
}

fn lines(file: &'static str) -> Vec<&'static str> {
    file.lines().filter(|line| !line.is_empty()).collect()
}

/// `[name]` headings, each followed by its items, one a line.
fn sections(file: &'static str) -> Slots {
    let mut slots = Slots::new();
    let mut heading = "";
    for line in lines(file) {
        match line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(name) => heading = name,
            None => slots.entry(heading).or_default().push(line),
        }
    }
    slots
}
