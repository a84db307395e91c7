//! Fills the slots of templates: names, times, links, ids, sizes.

use super::Dice;
use super::source::{Language, Source};
use std::fmt::Write as _;

/// Slots within slots within slots: a link holds a file name holds a word.
const DEPTH_MAX: usize = 4;

pub(super) struct Fields<'a> {
    dice: &'a mut Dice,
    source: &'static Source,
    language: Language,
    text: String,
    out: String,
}

impl<'a> Fields<'a> {
    /// For sentences, whose slots are written `{name}`.
    pub(super) fn chat(dice: &'a mut Dice, source: &'static Source, english: bool) -> Self {
        let language = if english { Language::English } else { Language::Chinese };
        Self::new(dice, source, language, String::new())
    }

    /// For JSON shapes, whose slots are written `<name>`; `text` fills `<text>`.
    pub(super) fn json(dice: &'a mut Dice, source: &'static Source, text: String) -> Self {
        Self::new(dice, source, Language::Json, text)
    }

    fn new(dice: &'a mut Dice, source: &'static Source, language: Language, text: String) -> Self {
        Self { dice, source, language, text, out: String::new() }
    }

    pub(super) fn expand(mut self, template: &str) -> String {
        let marks = if self.language == Language::Json { ('<', '>') } else { ('{', '}') };
        self.template(template, marks, 0);
        self.out
    }

    fn template(&mut self, template: &str, marks: (char, char), depth: usize) {
        let mut rest = template;
        while let Some((before, after)) = rest.split_once(marks.0) {
            self.out.push_str(before);
            let (slot, after) = after.split_once(marks.1).unwrap_or((after, ""));
            self.slot(slot, depth);
            rest = after;
        }
        self.out.push_str(rest);
    }

    fn slot(&mut self, slot: &str, depth: usize) {
        if self.number(slot) || self.time(slot) || depth >= DEPTH_MAX {
            return;
        }
        let (source, language) = (self.source, self.language);
        match slot {
            "text" | "held" => self.out.push_str(&self.text),
            "url" => {
                let url = self.dice.pick(source.choices(Language::Json, "url"));
                self.template(url, ('<', '>'), depth + 1);
            }
            "emoji" => self.out.push_str(self.dice.pick_early(&source.emoji)),
            "word" => {
                let word = self.dice.pick(&WORDS);
                self.out.push_str(word);
            }
            "name" if language == Language::Json => {
                let of = if self.dice.percent(60) { Language::English } else { Language::Chinese };
                let name = self.dice.pick(source.choices(of, "name"));
                self.out.push_str(name);
            }
            other => {
                let choice = self.dice.pick(source.choices(language, other));
                self.template(choice, ('<', '>'), depth + 1);
            }
        }
    }

    /// Ids, sizes, prices; false if `slot` is none of them.
    fn number(&mut self, slot: &str) -> bool {
        match slot {
            "n" => {
                let top = [9, 30, 60, 99, 300][self.dice.below(5)];
                self.decimal(1, top);
            }
            "id" => self.decimal(1_000_000, 9_999_999_999),
            "number" => self.decimal(10_000_000, 99_999_999),
            "phone" => {
                self.out.push_str(["138", "139", "186", "150", "555"][self.dice.below(5)]);
                self.decimal(10_000_000, 99_999_999);
            }
            "px" => self.pixels(),
            "bytes" => {
                let top = [9_999, 99_999, 999_999, 9_999_999][self.dice.below(4)];
                self.decimal(512, top);
            }
            "dur" => self.decimal(1, 600),
            "price" => self.price(),
            "bool" => self.out.push_str(["true", "false"][self.dice.below(2)]),
            "lat" => self.degrees(89),
            "lon" => self.degrees(179),
            "uuid" => self.uuid(false),
            "uuid7" => self.uuid(true),
            "md5" => self.hex(32),
            "sha" => self.hex(64),
            "key" => self.key(),
            _ => return false,
        }
        true
    }

    /// Points in time; false if `slot` is none.
    fn time(&mut self, slot: &str) -> bool {
        match slot {
            "s" => self.decimal(1_690_000_000, 1_830_000_000),
            "ms" => self.decimal(1_690_000_000_000, 1_830_000_000_000),
            "year" => self.decimal(2023, 2027),
            "mm" => self.two_digits(1, 12),
            "ymd" => {
                self.decimal(2023, 2027);
                let slashes = self.dice.percent(40);
                for top in [12, 28] {
                    if slashes {
                        self.out.push('/');
                    }
                    self.two_digits(1, top);
                }
            }
            "iso" => self.iso(),
            "time" => self.clock(),
            _ => return false,
        }
        true
    }

    fn decimal(&mut self, from: usize, to: usize) {
        let number = self.dice.between(from, to);
        self.push(format_args!("{number}"));
    }

    fn two_digits(&mut self, from: usize, to: usize) {
        let number = self.dice.between(from, to);
        self.push(format_args!("{number:02}"));
    }

    fn pixels(&mut self) {
        const USUAL: [usize; 14] =
            [1080, 1920, 1280, 720, 800, 600, 640, 480, 1024, 768, 3024, 4032, 750, 1334];
        if self.dice.percent(55) {
            let at = self.dice.below(USUAL.len());
            self.push(format_args!("{}", USUAL[at]));
        } else {
            self.decimal(100, 4999);
        }
    }

    fn price(&mut self) {
        let whole = self.dice.between(1, 300);
        let currency = if self.language == Language::Json {
            ""
        } else {
            ["$", "$", "€", "£"][self.dice.below(4)]
        };
        let cents = ["", ".99", ".50", ".00"][self.dice.below(4)];
        self.push(format_args!("{currency}{whole}{cents}"));
    }

    fn degrees(&mut self, top: usize) {
        if self.dice.percent(30) {
            self.out.push('-');
        }
        self.decimal(1, top);
        self.out.push('.');
        for _ in 0..self.dice.between(4, 7) {
            self.decimal(0, 9);
        }
    }

    fn iso(&mut self) {
        self.decimal(2023, 2027);
        for (mark, top) in [('-', 12), ('-', 28), ('T', 23), (':', 59), (':', 59)] {
            self.out.push(mark);
            self.two_digits(usize::from(mark == '-'), top);
        }
        match self.dice.below(4) {
            0 => self.out.push('Z'),
            1 => self.out.push_str("+00:00"),
            2 => self.out.push_str("+08:00"),
            _ => {
                self.out.push('.');
                let millis = self.dice.below(1000);
                self.push(format_args!("{millis:03}Z"));
            }
        }
    }

    fn clock(&mut self) {
        let hour = self.dice.between(1, 12);
        let minute = [0, 0, 30, 15, 45][self.dice.below(5)];
        match (self.language, self.dice.below(4)) {
            (Language::Chinese, 0 | 1) => {
                let part = ["早上", "上午", "下午", "晚上", ""][self.dice.below(5)];
                let half = if minute == 30 { "半" } else { "" };
                self.push(format_args!("{part}{hour}点{half}"));
            }
            (Language::Chinese, _) => self.push(format_args!("{}:{minute:02}", hour + 8)),
            (_, 0) => self.push(format_args!("{hour} o'clock")),
            (_, 1) => self.push(format_args!("{hour}:{minute:02}")),
            (_, 2) => self.push(format_args!("{hour} pm")),
            _ => self.push(format_args!("{hour}:{minute:02} am")),
        }
    }

    fn uuid(&mut self, by_time: bool) {
        if by_time {
            self.out.push_str("019");
            self.hex(5);
        } else {
            self.hex(8);
        }
        self.out.push('-');
        self.hex(4);
        self.out.push_str(if by_time { "-7" } else { "-4" });
        self.hex(3);
        self.out.push('-');
        self.out.push_str(["8", "9", "a", "b"][self.dice.below(4)]);
        self.hex(3);
        self.out.push('-');
        self.hex(12);
    }

    fn hex(&mut self, digits: usize) {
        for _ in 0..digits {
            let digit = self.dice.below(16);
            self.push(format_args!("{digit:x}"));
        }
    }

    fn key(&mut self) {
        const LETTERS: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        for _ in 0..self.dice.between(8, 14) {
            let at = self.dice.below(LETTERS.len());
            self.out.push(char::from(LETTERS[at]));
        }
    }

    fn push(&mut self, args: std::fmt::Arguments<'_>) {
        self.out.write_fmt(args).expect("writing to a string cannot fail");
    }
}

/// Path segments and file names.
const WORDS: [&str; 40] = [
    "news", "blog", "docs", "image", "photo", "report", "project", "design", "summary", "notes",
    "budget", "invoice", "update", "release", "guide", "article", "product", "shop", "item",
    "order", "user", "profile", "account", "login", "search", "category", "video", "watch",
    "travel", "food", "recipe", "music", "event", "meeting", "plan", "final", "draft", "backup",
    "test", "index",
];
