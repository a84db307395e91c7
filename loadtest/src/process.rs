//! What a process has cost: CPU time and memory from /proc.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

/// CPU seconds (user and system) that the process has used so far.
pub fn cpu_seconds(pid: u32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let stat = Stat::parse(&stat)?;
    Some((stat.user + stat.system) as f64 / ticks_per_second())
}

/// Bytes of RAM that the process holds (RSS).
pub fn rss_bytes(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: u64 = line.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

/// CPU seconds of a local PostgreSQL with all its processes, those that ended
/// included, found by the port its postmaster says it has.
pub fn postgres_cpu_seconds(port: u16) -> Option<f64> {
    let servers: Vec<(u32, Stat)> = fs::read_dir("/proc")
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter_map(|pid| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let stat = Stat::parse(&stat)?;
            (stat.command == "postgres").then_some((pid, stat))
        })
        .collect();
    let (postmaster, own) = servers.iter().find(|(pid, stat)| {
        !servers.iter().any(|(other, _)| *other == stat.parent) && listens_on(*pid, port)
    })?;
    let children: u64 = servers
        .iter()
        .filter(|(_, stat)| stat.parent == *postmaster)
        .map(|(_, stat)| stat.user + stat.system)
        .sum();
    let ticks = own.user + own.system + own.ended_children + children;
    Some(ticks as f64 / ticks_per_second())
}

/// A postmaster works in its data directory, whose `postmaster.pid` has the port in its fourth line.
fn listens_on(postmaster: u32, port: u16) -> bool {
    let path = format!("/proc/{postmaster}/cwd/postmaster.pid");
    let Ok(text) = fs::read_to_string(Path::new(&path)) else {
        return false;
    };
    text.lines().nth(3).map(str::trim) == Some(port.to_string().as_str())
}

#[derive(Debug, PartialEq)]
struct Stat {
    command: String,
    parent: u32,
    user: u64,
    system: u64,
    /// User and system ticks of children that ended and were waited for.
    ended_children: u64,
}

impl Stat {
    /// Reads a line of /proc/PID/stat (proc(5)). The command may hold blanks and parentheses.
    fn parse(line: &str) -> Option<Self> {
        let (start, rest) = line.rsplit_once(')')?;
        let command = start.split_once('(')?.1.to_owned();
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
        Some(Self {
            command,
            parent: u32::try_from(number(1)?).ok()?,
            user: number(11)?,
            system: number(12)?,
            ended_children: number(13)? + number(14)?,
        })
    }
}

fn ticks_per_second() -> f64 {
    static TICKS: OnceLock<f64> = OnceLock::new();
    *TICKS.get_or_init(|| {
        Command::new("getconf")
            .arg("CLK_TCK")
            .output()
            .ok()
            .and_then(|out| String::from_utf8(out.stdout).ok()?.trim().parse().ok())
            .filter(|ticks| *ticks > 0.0)
            .unwrap_or(100.0)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    #[test]
    fn a_stat_line_is_read_whatever_the_command_is_called() {
        let line = "42 (a (b) c) S 7 42 42 0 -1 4194560 1 2 3 4 150 50 30 20 20 0 1 0 100 0 0";
        assert_eq!(
            Stat::parse(line).unwrap(),
            Stat {
                command: "a (b) c".to_owned(),
                parent: 7,
                user: 150,
                system: 50,
                ended_children: 50
            }
        );
        assert_eq!(Stat::parse("nonsense"), None);
    }

    #[test]
    fn this_process_has_a_size_and_a_time() {
        let pid = std::process::id();
        assert!(rss_bytes(pid).unwrap() > 100_000);
        assert!(cpu_seconds(pid).unwrap() >= 0.0);
        assert_eq!(cpu_seconds(u32::MAX), None);
    }
}
