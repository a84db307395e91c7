//! Keys and commands for docs/chat.md.

use std::fmt::Write as _;

use super::command::{COMMANDS, KEYS};

/// The tables of keys and commands, in Markdown: what docs/chat.md holds.
pub fn reference() -> String {
    let mut page = String::from("| key | what it does |\n|---|---|\n");
    let infallible = "a String takes everything";
    for (key, what) in KEYS {
        writeln!(page, "| {key} | {what} |").expect(infallible);
    }
    page.push_str("\n| command | what it does |\n|---|---|\n");
    for command in COMMANDS {
        let spelled = format!("{} {}", command.word, command.arguments);
        writeln!(page, "| `{}` | {} |", spelled.trim_end(), command.what).expect(infallible);
    }
    page
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_page_of_keys_and_commands_is_current() {
        let page = include_str!("../../../docs/chat.md");
        assert!(
            page.contains(&super::reference()),
            "docs/chat.md should hold these tables:\n{}",
            super::reference()
        );
    }
}
