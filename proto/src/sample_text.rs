//! Invented chat text and JSON bodies, for training dictionaries and for load.
//!
//! Everything comes from the word lists in `proto/dictionaries/source`; the
//! same seed gives the same text on every machine. [`Corpus::HeldOut`] has
//! sentences, topics and JSON shapes of its own that no dictionary was trained
//! on, so a ratio measured on it says something about other people's text.

mod fields;
mod source;

use fields::Fields;
use source::Source;

/// Which word lists the text is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Corpus {
    /// What the shipped dictionaries are trained on.
    Training,
    /// What no dictionary has seen; figures count on this one.
    HeldOut,
}

/// What kind of text is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// English chat with some emoji.
    English,
    /// Simplified Chinese chat with some emoji.
    Chinese,
    /// English or Chinese, or sentences of both in one message.
    Mixed,
    /// One JSON object such as clients send for images, files and cards.
    Json,
}

/// A seeded source of texts.
#[derive(Clone, Debug)]
pub struct SampleText {
    dice: Dice,
    corpus: Corpus,
}

impl SampleText {
    /// A source that yields the same texts for the same `seed` and `corpus`.
    #[must_use]
    pub fn new(seed: u64, corpus: Corpus) -> Self {
        Self { dice: Dice(seed), corpus }
    }

    /// One message of `min_bytes..=max_bytes` bytes of UTF-8.
    ///
    /// A message may be up to 3 bytes shorter than `min_bytes` when the two
    /// bounds are so close that only a cut character would fit. JSON has the
    /// length of its shape; the bounds apply to the text within it.
    #[must_use]
    pub fn message(&mut self, style: Style, min_bytes: usize, max_bytes: usize) -> String {
        let mut writer = Writer { dice: &mut self.dice, source: Source::of(self.corpus) };
        match style {
            Style::Json => writer.json(min_bytes, max_bytes),
            _ => writer.chat(style, min_bytes, max_bytes),
        }
    }
}

/// One training-corpus chat message of mixed language, `min_bytes..=max_bytes`
/// long, from randomness that the caller owns.
#[must_use]
pub fn chat_message(
    random: &mut impl FnMut() -> u64,
    min_bytes: usize,
    max_bytes: usize,
) -> String {
    SampleText::new(random(), Corpus::Training).message(Style::Mixed, min_bytes, max_bytes)
}

/// SplitMix64: small, fast, the same everywhere.
#[derive(Clone, Debug)]
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in `0..bound`; 0 for a bound of 0.
    fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.next() % bound).unwrap_or(0)
    }

    fn between(&mut self, from: usize, to: usize) -> usize {
        from + self.below(to - from + 1)
    }

    fn percent(&mut self, chance: usize) -> bool {
        self.below(100) < chance
    }

    fn pick<'a>(&mut self, items: &[&'a str]) -> &'a str {
        let at = self.below(items.len());
        items.get(at).copied().unwrap_or("")
    }

    /// Early items far more often than late ones, as with emoji.
    fn pick_early<'a>(&mut self, items: &[&'a str]) -> &'a str {
        let first = self.below(items.len());
        let at = self.below(first + 1);
        items.get(self.below(at + 1)).copied().unwrap_or("")
    }
}

struct Writer<'a> {
    dice: &'a mut Dice,
    source: &'static Source,
}

impl Writer<'_> {
    fn chat(&mut self, style: Style, min_bytes: usize, max_bytes: usize) -> String {
        let mut text = String::new();
        let whole = match style {
            Style::Mixed if self.dice.percent(45) => Style::English,
            Style::Mixed if self.dice.percent(80) => Style::Chinese,
            other => other,
        };
        let sentences = 1 + usize::from(self.dice.percent(35)) + usize::from(self.dice.percent(15));
        for _ in 0..sentences {
            self.append(whole, &mut text);
        }
        while text.len() < min_bytes {
            self.append(whole, &mut text);
        }
        cut_to(&mut text, max_bytes);
        text
    }

    fn append(&mut self, style: Style, text: &mut String) {
        let english = match style {
            Style::Chinese => false,
            Style::Mixed => self.dice.percent(50),
            _ => true,
        };
        let sentence = if english { self.english() } else { self.chinese() };
        if !text.is_empty() && english {
            text.push(' ');
        }
        text.push_str(&sentence);
        if self.dice.percent(22) {
            if english {
                text.push(' ');
            }
            let emoji = self.dice.pick_early(&self.source.emoji);
            for _ in 0..1 + self.dice.below(2) * self.dice.below(3) {
                text.push_str(emoji);
            }
        }
    }

    fn english(&mut self) -> String {
        let mut sentence = match self.dice.below(100) {
            _ if self.source.en_words.is_empty() => self.template(&self.source.en_sentences, true),
            0..62 => self.template(&self.source.en_sentences, true),
            62..84 => self.composed(true),
            _ => self.words(true),
        };
        if self.dice.percent(25) {
            sentence = sentence.to_lowercase();
        }
        if self.dice.percent(25) && sentence.ends_with('.') {
            sentence.pop();
        }
        sentence
    }

    fn chinese(&mut self) -> String {
        let mut sentence = match self.dice.below(100) {
            _ if self.source.zh_words.is_empty() => self.template(&self.source.zh_sentences, false),
            0..55 => self.template(&self.source.zh_sentences, false),
            55..75 => self.composed(false),
            _ => self.words(false),
        };
        if self.dice.percent(30) && sentence.ends_with('。') {
            sentence.pop();
        }
        sentence
    }

    fn template(&mut self, sentences: &[&'static str], english: bool) -> String {
        let template = self.dice.pick(sentences);
        Fields::chat(self.dice, self.source, english).expand(template)
    }

    fn composed(&mut self, english: bool) -> String {
        let template = match (english, self.dice.percent(50)) {
            (true, true) => "{subject} {verb} {action} {when}, {clause}.",
            (true, false) => "{subject} {verb} {action} {clause}.",
            (false, true) => "{subject}{when}{verb}{action}，{clause}。",
            (false, false) => "{subject}{verb}{action}，{clause}。",
        };
        Fields::chat(self.dice, self.source, english).expand(template)
    }

    fn words(&mut self, english: bool) -> String {
        let words = if english { &self.source.en_words } else { &self.source.zh_words };
        let count = self.dice.between(3, 9);
        let mut sentence = String::new();
        for at in 0..count {
            let word = if self.dice.percent(40) {
                self.dice.pick_early(words)
            } else {
                self.dice.pick(words)
            };
            if at > 0 && english {
                sentence.push(' ');
            }
            sentence.push_str(word);
        }
        sentence.push(if english { '.' } else { '。' });
        sentence
    }

    fn json(&mut self, min_bytes: usize, max_bytes: usize) -> String {
        let mut shape = String::new();
        if self.source.json_pairs.is_empty() || self.dice.percent(45) {
            shape.push_str(self.dice.pick(&self.source.json_shapes));
        } else {
            shape.push('{');
            for at in 0..self.dice.between(3, 8) {
                if at > 0 {
                    shape.push(',');
                }
                shape.push_str(self.dice.pick(&self.source.json_pairs));
            }
            shape.push('}');
        }
        if self.dice.percent(35) {
            shape = spaced(&shape);
        }
        let text = self.chat(Style::Mixed, min_bytes, max_bytes).replace(['"', '\\'], "'");
        Fields::json(self.dice, self.source, text).expand(&shape)
    }
}

/// `", "` and `": "` between items, as many JSON writers print by default.
fn spaced(shape: &str) -> String {
    let mut out = String::with_capacity(shape.len() + 16);
    let mut quoted = false;
    for character in shape.chars() {
        quoted ^= character == '"';
        out.push(character);
        if !quoted && matches!(character, ',' | ':') {
            out.push(' ');
        }
    }
    out
}

fn cut_to(text: &mut String, max_bytes: usize) {
    let mut end = max_bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
}

#[cfg(test)]
mod tests {
    use super::*;

    const STYLES: [Style; 4] = [Style::English, Style::Chinese, Style::Mixed, Style::Json];

    #[test]
    fn the_same_seed_gives_the_same_text() {
        for corpus in [Corpus::Training, Corpus::HeldOut] {
            let mut one = SampleText::new(7, corpus);
            let mut two = SampleText::new(7, corpus);
            for style in STYLES {
                assert_eq!(one.message(style, 20, 300), two.message(style, 20, 300));
            }
        }
    }

    #[test]
    fn chat_keeps_its_bounds() {
        let mut text = SampleText::new(1, Corpus::Training);
        for round in 0..3000 {
            let message = text.message(STYLES[round % 3], 20, 120);
            assert!((17..=120).contains(&message.len()), "{message:?}");
        }
    }

    #[test]
    fn no_slot_is_left_unfilled() {
        for corpus in [Corpus::Training, Corpus::HeldOut] {
            let mut text = SampleText::new(2, corpus);
            for round in 0..4000 {
                let style = STYLES[round % 4];
                let message = text.message(style, 20, 4000);
                assert!(!message.contains(['<', '>']), "{message}");
                if style == Style::Json {
                    let parsed: Result<serde_json::Value, _> = serde_json::from_str(&message);
                    assert!(parsed.is_ok(), "{message}");
                } else {
                    assert!(!message.contains(['{', '}']), "{message}");
                }
            }
        }
    }

    #[test]
    fn held_out_sentences_are_not_in_the_training_lists() {
        let training = Source::of(Corpus::Training);
        let held_out = Source::of(Corpus::HeldOut);
        for sentence in &held_out.en_sentences {
            assert!(!training.en_sentences.contains(sentence));
        }
        for sentence in &held_out.zh_sentences {
            assert!(!training.zh_sentences.contains(sentence));
        }
        for shape in &held_out.json_shapes {
            assert!(!training.json_shapes.contains(shape));
        }
    }
}
