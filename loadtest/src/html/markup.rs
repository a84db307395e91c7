//! Writes elements. Everything that is not an element's or an attribute's name is escaped here
//! and nowhere else; the page is well-formed XML, so that it can be checked as such.

use std::fmt::Write as _;

#[derive(Debug, Default)]
pub(super) struct Markup {
    out: String,
    /// What is open, by rising depth.
    open: Vec<&'static str>,
    ids: usize,
}

impl Markup {
    /// Text of our own that is markup already.
    pub(super) fn raw(&mut self, markup: &str) {
        self.out.push_str(markup);
    }

    pub(super) fn open(&mut self, name: &'static str, attributes: &[(&str, &str)]) {
        self.start(name, attributes);
        self.out.push('>');
        self.open.push(name);
    }

    pub(super) fn close(&mut self, name: &'static str) {
        debug_assert_eq!(self.open.last(), Some(&name), "elements are closed in order");
        self.open.pop();
        // Writing to a String cannot fail.
        write!(self.out, "</{name}>").ok();
        if !matches!(name, "td" | "th" | "li" | "text" | "title" | "desc") {
            self.out.push('\n');
        }
    }

    pub(super) fn empty(&mut self, name: &'static str, attributes: &[(&str, &str)]) {
        self.start(name, attributes);
        self.out.push_str(" />");
    }

    pub(super) fn element(&mut self, name: &'static str, attributes: &[(&str, &str)], text: &str) {
        self.open(name, attributes);
        self.text(text);
        self.close(name);
    }

    pub(super) fn text(&mut self, text: &str) {
        escape(&mut self.out, text);
    }

    /// An id that the page has once.
    pub(super) fn id(&mut self) -> String {
        self.ids += 1;
        format!("id{}", self.ids)
    }

    pub(super) fn finish(self) -> String {
        debug_assert!(self.open.is_empty(), "{:?} are open", self.open);
        self.out
    }

    fn start(&mut self, name: &str, attributes: &[(&str, &str)]) {
        self.out.push('<');
        self.out.push_str(name);
        for (attribute, value) in attributes {
            write!(self.out, " {attribute}=\"").ok();
            escape(&mut self.out, value);
            self.out.push('"');
        }
    }
}

fn escape(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\t' | '\n' => out.push(c),
            // Controls have no place in XML; overrides of direction would misplace what follows.
            c if c.is_control() => out.push('\u{fffd}'),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{fffe}' | '\u{ffff}' => {
                out.push('\u{fffd}');
            }
            c => out.push(c),
        }
    }
}
