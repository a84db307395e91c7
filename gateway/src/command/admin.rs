//! `petrel admin`: the commands of the table, by the admin port of the gateway that has these
//! settings. Where it listens and its token are found as the gateway finds them.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::builder::PossibleValuesParser;
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, FromArgMatches, Subcommand, value_parser};
use petrel_gateway::admin::{
    Argument, COMMANDS, Command, DEFAULT_NAME, Field, GROUPS, Kind, Shape, find, openapi_text,
    read_token,
};
use petrel_gateway::config::Config;
use serde_json::{Map, Value};

/// Connecting may take this long.
const CONNECT_PATIENCE: Duration = Duration::from_secs(3);
/// Carrying a command out may take this long.
const ANSWER_PATIENCE: Duration = Duration::from_secs(60);
/// An answer is read up to this.
const ANSWER_BYTES_MAX: u64 = 4 << 20;
/// A file with a password is read up to this.
const PASSWORD_FILE_BYTES_MAX: u64 = 4 * 1024;

/// One command of the table, with what it is given.
#[derive(Clone, Debug)]
pub(crate) enum Call {
    /// Prints the OpenAPI document.
    OpenApi,
    /// Asks the gateway.
    Ask {
        /// What.
        command: &'static Command,
        /// Given on the command line.
        arguments: Map<String, Value>,
        /// Where a password comes from, and which argument it is.
        password: Option<(&'static str, PathBuf)>,
        /// Whether the answer is printed as it came.
        json: bool,
    },
}

impl Subcommand for Call {
    fn augment_subcommands(mut above: clap::Command) -> clap::Command {
        for (group, about) in GROUPS {
            let leaves = COMMANDS.iter().filter(|command| command.group == *group).map(leaf);
            let group = match find(group, DEFAULT_NAME) {
                Some(alone) => with_arguments(clap::Command::new(*group), alone)
                    .args_conflicts_with_subcommands(true),
                None => clap::Command::new(*group)
                    .subcommand_required(true)
                    .arg_required_else_help(true),
            };
            above = above.subcommand(group.about(*about).subcommands(leaves));
        }
        let about = "Prints the OpenAPI document of the admin API";
        above.subcommand(clap::Command::new("openapi").about(about))
    }

    fn augment_subcommands_for_update(above: clap::Command) -> clap::Command {
        Self::augment_subcommands(above)
    }

    fn has_subcommand(name: &str) -> bool {
        name == "openapi" || GROUPS.iter().any(|(group, _)| *group == name)
    }
}

impl FromArgMatches for Call {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let unknown = || clap::Error::new(ErrorKind::InvalidSubcommand);
        let (group, matches) = matches.subcommand().ok_or_else(unknown)?;
        if group == "openapi" {
            return Ok(Self::OpenApi);
        }
        let (name, matches) = matches.subcommand().unwrap_or((DEFAULT_NAME, matches));
        let command = find(group, name).ok_or_else(unknown)?;
        let mut arguments = Map::new();
        let mut password = None;
        for argument in command.arguments {
            match value_of(argument, matches) {
                Some(Value::String(path)) if argument.kind == Kind::Password => {
                    password = Some((argument.name, path.into()));
                }
                Some(value) => drop(arguments.insert(argument.name.to_owned(), value)),
                None => {}
            }
        }
        Ok(Self::Ask { command, arguments, password, json: matches.get_flag("json") })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

fn leaf(command: &'static Command) -> clap::Command {
    with_arguments(clap::Command::new(command.name).about(command.about), command)
}

fn with_arguments(line: clap::Command, command: &'static Command) -> clap::Command {
    let json = Arg::new("json").long("json").action(ArgAction::SetTrue);
    line.args(command.arguments.iter().map(argument)).arg(json.help("Prints the answer as JSON."))
}

/// What is required stands by itself, in the order of the table; the rest has names.
fn argument(of: &'static Argument) -> Arg {
    let arg = Arg::new(of.name).help(of.about).required(of.required);
    let arg = match of.kind {
        Kind::Switch => return arg.long(of.name).action(ArgAction::SetTrue),
        Kind::Password => {
            let about = "File with the password in its first line; - is standard input.";
            return arg.long("password-file").value_name("FILE").help(about);
        }
        Kind::Users(_) => arg.num_args(1..),
        Kind::Count(max) => arg.value_parser(value_parser!(u64).range(1..=max)),
        Kind::Word(words) => arg.value_parser(PossibleValuesParser::new(words.iter().copied())),
        Kind::Line(_) | Kind::Lines(_) | Kind::Id => arg,
    };
    if of.required { arg } else { arg.long(of.name) }
}

fn value_of(argument: &Argument, matches: &ArgMatches) -> Option<Value> {
    let name = argument.name;
    match argument.kind {
        Kind::Switch => matches.get_flag(name).then_some(Value::Bool(true)),
        Kind::Count(_) => matches.get_one::<u64>(name).copied().map(Value::from),
        Kind::Users(_) => {
            let users = matches.get_many::<String>(name)?;
            Some(users.cloned().map(Value::String).collect())
        }
        _ => matches.get_one::<String>(name).cloned().map(Value::String),
    }
}

/// Does it.
pub(super) fn run(call: Call, config: &Config) -> Result<()> {
    let text = match call {
        Call::OpenApi => openapi_text(),
        Call::Ask { command, mut arguments, password, json } => {
            if let Some((name, path)) = password {
                arguments.insert(name.to_owned(), read_password(&path)?.into());
            }
            let answer = ask(command, Value::Object(arguments), config)?;
            if json { answer.to_string() + "\n" } else { shown(&answer, command.answer) }
        }
    };
    std::io::stdout().write_all(text.as_bytes()).context("cannot write to standard output")
}

fn read_password(path: &Path) -> Result<String> {
    let mut text = String::new();
    let read = if path == Path::new("-") {
        std::io::stdin().take(PASSWORD_FILE_BYTES_MAX).read_to_string(&mut text)
    } else {
        std::fs::File::open(path)
            .and_then(|file| file.take(PASSWORD_FILE_BYTES_MAX).read_to_string(&mut text))
    };
    read.with_context(|| format!("--password-file: cannot read {}", path.display()))?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

fn ask(command: &Command, arguments: Value, config: &Config) -> Result<Value> {
    let token = read_token(config)?;
    let at = config.admin.listen;
    let path = format!("/admin/v1/{}/{}", command.group, command.name);
    let answered = post(at, &path, &token, &arguments.to_string());
    let (status, body) = answered.with_context(|| {
        format!("no answer from {at} (admin.listen): is the gateway with these settings running?")
    })?;
    let answer: Value = serde_json::from_str(&body)
        .with_context(|| format!("{at}{path} answers {status} without JSON"))?;
    if status == 200 {
        return Ok(answer);
    }
    let said = |name: &str| answer["error"][name].as_str().unwrap_or_default();
    let (field, text, code) = (said("field"), plain(said("text")), said("code"));
    if field.is_empty() {
        bail!("{text} ({code})");
    }
    bail!("{field}: {text} ({code})")
}

fn post(at: SocketAddr, path: &str, token: &str, body: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&at, CONNECT_PATIENCE)?;
    stream.set_read_timeout(Some(ANSWER_PATIENCE))?;
    stream.set_write_timeout(Some(CONNECT_PATIENCE))?;
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer is not HTTP")?;
    let status = head.split(' ').nth(1).context("the answer has no status")?;
    Ok((status.parse().context("the answer's status is no number")?, body.to_owned()))
}

/// An answer for people: a line for each part, a table for a list.
fn shown(answer: &Value, fields: &[Field]) -> String {
    let mut out = String::new();
    let width = fields.iter().map(|field| field.name.len()).max().unwrap_or_default();
    for field in fields {
        let value = &answer[field.name];
        match (field.kind, value) {
            (Shape::Rows(columns), Value::Array(rows)) => table(&mut out, columns, rows),
            (kind, value) => {
                // Writing to a String cannot fail.
                writeln!(out, "{:width$}  {}", field.name, cell(kind, value)).ok();
            }
        }
    }
    out
}

fn table(out: &mut String, columns: &[Field], rows: &[Value]) {
    let head = columns.iter().map(|column| column.name.to_owned()).collect();
    let line = |row: &Value| columns.iter().map(|c| cell(c.kind, &row[c.name])).collect();
    let lines: Vec<Vec<String>> = std::iter::once(head).chain(rows.iter().map(line)).collect();
    let widths: Vec<usize> = (0..columns.len())
        .map(|n| lines.iter().map(|line| line[n].chars().count()).max().unwrap_or_default())
        .collect();
    for line in &lines {
        let cells: Vec<String> =
            line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        writeln!(out, "{}", cells.join("  ").trim_end()).ok();
    }
}

fn cell(kind: Shape, value: &Value) -> String {
    match (kind, value) {
        (Shape::Time, value) => time(value.as_u64().unwrap_or_default()),
        (_, Value::String(text)) => plain(text),
        (_, Value::Bool(yes)) => if *yes { "yes" } else { "no" }.to_owned(),
        (_, Value::Array(texts)) => {
            let texts: Vec<String> = texts.iter().filter_map(Value::as_str).map(plain).collect();
            texts.join(" ")
        }
        (_, value) => value.to_string(),
    }
}

/// Text of others, made fit for a terminal: nothing that controls it or turns its direction.
fn plain(text: &str) -> String {
    let turns = |c: char| matches!(c, '\u{61c}' | '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|c| if c.is_control() || turns(c) { '\u{fffd}' } else { c }).collect()
}

/// Unix milliseconds as a date and a time of day (UTC); by Howard Hinnant's `civil_from_days`.
fn time(ms: u64) -> String {
    if ms == 0 {
        return "never".to_owned();
    }
    let (days, second) = (ms / 86_400_000, ms / 1000 % 86_400);
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, later) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = year + era * 400 + later;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn times_are_dates() {
        assert_eq!(time(0), "never");
        assert_eq!(time(951_782_400_000), "2000-02-29 00:00:00Z");
        assert_eq!(time(1_767_225_599_999), "2025-12-31 23:59:59Z");
        assert_eq!(time(1_767_225_600_000), "2026-01-01 00:00:00Z");
    }

    #[test]
    fn a_list_is_a_table_and_hostile_names_are_harmless() {
        let answer = json!({
            "users": [
                { "id": "1", "user": "al", "nickname": "\u{1b}[2Jx" },
                { "id": "22", "user": "bob", "nickname": "\u{202e}evil" },
            ],
            "more": false,
        });
        let fields = find("users", "list").map(|command| command.answer).unwrap_or_default();
        let expected =
            "id  user  nickname\n1   al    \u{fffd}[2Jx\n22  bob   \u{fffd}evil\nmore   no\n";
        assert_eq!(shown(&answer, fields), expected);
    }

    #[test]
    fn every_command_of_the_table_is_a_command_here() {
        let mut all = Call::augment_subcommands(clap::Command::new("admin"));
        all.build();
        for command in COMMANDS {
            let group = all.find_subcommand(command.group);
            let leaf = group.and_then(|group| group.find_subcommand(command.name));
            assert!(leaf.is_some(), "{command:?}");
        }
    }
}
