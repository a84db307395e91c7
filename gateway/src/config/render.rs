//! The settings as text: the example file, the page of documentation, the values in force.

use std::fmt::Write as _;

use super::Config;
use super::layer::Loaded;
use super::setting::Setting;

const EXAMPLE_HEAD: &str = "\
# All settings of Petrel, with their defaults. Made by `petrel config default`.
# A line without its leading '#' sets the value. Order of precedence: this file
# (--config FILE), environment variables (PETREL__SECTION__KEY), flags
# (--set section.key=value). `petrel config check` says what is wrong with a file.
";

const PAGE_HEAD: &str = "\
# Configuration

All settings, made by `petrel config default --format markdown` from the table in gateway/src/config.rs. A TOML file (`--config FILE`)
goes over the defaults, environment variables (`PETREL__SECTION__KEY`) over the file, flags (`--set section.key=value`) over
both. `petrel config check` tells all problems with their places; `petrel config show --origin` tells what is in force, and where it
came from. [deploy/petrel.example.toml](../deploy/petrel.example.toml) is the same as a file to start from.
";

/// The example file: every setting as a comment, with its documentation.
pub fn example() -> String {
    let mut out = EXAMPLE_HEAD.to_owned();
    for section in Config::sections() {
        out.push('\n');
        for line in section.about {
            write_line(&mut out, "#", line);
        }
        if !section.name.is_empty() {
            // Writing to a String cannot fail, here and below.
            writeln!(out, "[{}]", section.name).ok();
        }
        for (n, setting) in section.settings.iter().enumerate() {
            if n > 0 || !section.name.is_empty() {
                out.push('\n');
            }
            for line in setting.about {
                write_line(&mut out, "#", line);
            }
            writeln!(out, "# Allowed: {}.", setting.allowed).ok();
            if setting.default.is_none() {
                out.push_str("# Not set by default.\n");
            }
            writeln!(out, "#{} = {}", setting.name(), literal(setting)).ok();
        }
    }
    out
}

/// The page of documentation.
pub fn page() -> String {
    let mut out = PAGE_HEAD.to_owned();
    for section in Config::sections() {
        let title = match section.name {
            "" => "Outside of sections".to_owned(),
            name => format!("`[{name}]`"),
        };
        writeln!(out, "\n## {title}\n").ok();
        if !section.about.is_empty() {
            writeln!(out, "{}\n", joined(section.about)).ok();
        }
        out.push_str("| key | default | allowed | what it is |\n|---|---|---|---|\n");
        for setting in &section.settings {
            let default = setting.default.as_deref().map_or("not set".to_owned(), code);
            let about = joined(setting.about).replace('|', "\\|");
            writeln!(out, "| `{}` | {default} | {} | {about} |", setting.key, setting.allowed).ok();
        }
    }
    out
}

/// The values in force as a TOML file; with `origin`, each with where it came from.
pub fn shown(loaded: &Loaded, origin: bool) -> String {
    let mut out = String::new();
    let mut section = "";
    let values = loaded.config.shown();
    for (key, value) in &values {
        let (its_section, name) = key.rsplit_once('.').unwrap_or(("", key));
        if its_section != section {
            section = its_section;
            writeln!(out, "\n[{section}]").ok();
        }
        match value {
            Some(value) => write!(out, "{name} = {value}").ok(),
            None => write!(out, "#{name} is not set").ok(),
        };
        if origin {
            write!(out, "  # {}", loaded.origin(key)).ok();
        }
        out.push('\n');
    }
    out
}

fn literal(setting: &Setting) -> String {
    match (&setting.default, setting.example) {
        (Some(default), _) => default.clone(),
        (None, Some(example)) => toml::Value::String(example.to_owned()).to_string(),
        (None, None) => "\"\"".to_owned(),
    }
}

fn write_line(out: &mut String, mark: &str, line: &str) {
    let line = line.trim();
    if line.is_empty() {
        out.push_str(mark);
        out.push('\n');
    } else {
        writeln!(out, "{mark} {line}").ok();
    }
}

fn joined(lines: &[&str]) -> String {
    lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
}

fn code(text: &str) -> String {
    format!("`{text}`")
}
