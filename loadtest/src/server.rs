//! The server under load: always a process of its own, started here or met.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use clap::ValueEnum;
use petrel_client::{Identity, Trust};

use crate::carrier::Carrier;
use crate::dial::{self, Target};
use crate::link::{Counts, Link, PacketLink, Profile};
use crate::options::Options;

/// How long a server may take to say that it is ready.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How long it may take to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);

/// A server that can be reached, and what is known of it.
#[derive(Debug)]
pub struct Server {
    /// Where it is.
    pub target: Target,
    /// Its process, if known.
    pub pid: Option<u32>,
    /// Its admin port, if known.
    pub admin: Option<SocketAddr>,
    process: Option<Process>,
    seeding: Option<Seeding>,
    link: Option<Link>,
    /// The same for TCP.
    packet_link: Option<PacketLink>,
}

/// What `petrel admin seed` needs; the directory goes when the run ends.
#[derive(Debug)]
struct Seeding {
    program: PathBuf,
    settings: Vec<String>,
    directory: tempfile::TempDir,
}

impl Server {
    /// The gateway to load: the one that `--server` names, or one started for this run with
    /// `users` accounts made beforehand.
    ///
    /// # Errors
    /// When it cannot be found, started or reached.
    pub fn of(options: &Options, users: usize) -> anyhow::Result<(Self, Vec<Identity>)> {
        let (mut server, identities) = match &options.server {
            Some(server) => (Self::met(options, server)?, Vec::new()),
            None => Self::started(options, users)?,
        };
        server.emulate(options)?;
        Ok((server, identities))
    }

    /// Puts the emulated network that was asked for between users and server.
    fn emulate(&mut self, options: &Options) -> anyhow::Result<()> {
        if let Some(profile) = emulated(options)
            && options.transport == Carrier::Quic
        {
            let listen = (Ipv4Addr::LOCALHOST, 0).into();
            self.link = Some(Link::start(profile, listen, self.target.address, options.seed)?);
        }
        Ok(())
    }

    /// Where users reach it: through the emulated link, if there is one.
    pub fn front(&self) -> Target {
        let address = match (&self.link, &self.packet_link) {
            (Some(link), _) => link.address(),
            (None, Some(link)) => link.towards(self.target.address.port()),
            (None, None) => return self.target.clone(),
        };
        Target { address, apart: true, ..self.target.clone() }
    }

    /// What the emulated link did.
    pub fn link_counts(&self) -> Option<Counts> {
        let packets = self.packet_link.as_ref().map(PacketLink::counts);
        self.link.as_ref().map(Link::counts).or(packets)
    }

    /// The emulated link, if there is one.
    pub fn link(&self) -> Option<&Link> {
        self.link.as_ref()
    }

    /// Kills a gateway that was started here without a word.
    ///
    /// # Errors
    /// If it was not started here.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.process.as_mut().context("the gateway was not started here")?.kill();
        Ok(())
    }

    /// Starts it again on the same port. It listens when this returns.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_again(&mut self, options: &Options) -> anyhow::Result<()> {
        let seeding = self.seeding.as_ref().context("the gateway was not started here")?;
        let command = seeding.serve(options);
        let log = seeding.directory.path().join("gateway-again.log");
        let (process, ready) = Process::start(command, &log)?;
        self.pid = Some(process.child.id());
        self.admin = ready.admin;
        self.process = Some(process);
        Ok(())
    }

    fn met(options: &Options, server: &str) -> anyhow::Result<Self> {
        let trust = match (&options.ca, &options.fingerprint) {
            (Some(path), _) => Trust::CaFile(path.clone()),
            (None, Some(hex)) => Trust::from_fingerprint_hex(hex)?,
            (None, None) => bail!("--server: needs --fingerprint or --ca"),
        };
        if let (Some(pid), Some(cpus)) = (options.server_pid, &options.server_cpus) {
            let status = Command::new("taskset")
                .args(["-apc", cpus, &pid.to_string()])
                .stdout(Stdio::null())
                .status()
                .context("--server-cpus: taskset")?;
            if !status.success() {
                bail!("--server-cpus {cpus}: taskset failed");
            }
        }
        let mut others = dial::resolve(server)?;
        let address = others.remove(0);
        Ok(Self {
            target: Target {
                address,
                others,
                server_name: options.server_name.clone(),
                trust,
                apart: false,
            },
            pid: options.server_pid,
            admin: options.admin,
            process: None,
            seeding: None,
            link: None,
            packet_link: None,
        })
    }

    fn started(options: &Options, users: usize) -> anyhow::Result<(Self, Vec<Identity>)> {
        let program = find_gateway()?;
        let directory = tempfile::Builder::new().prefix("petrel-loadtest-").tempdir()?;
        let mut settings = settings(options, directory.path());
        if options.restart {
            // Its own port from the beginning: the keys by which it knows its clients again are made for
            // the address that it is told.
            let free = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
            settings.push(format!("gateway.listen=\"{free}\""));
        }
        let packet_link = match emulated(options) {
            Some(profile) if options.transport == Carrier::Tcp => {
                let link = PacketLink::start(profile, options.seed)?;
                settings.push(format!("gateway.listen=\"{}:0\"", link.own()));
                settings.extend(certificate(directory.path())?);
                Some(link)
            }
            _ => None,
        };
        let seeding = Seeding { program, settings, directory };
        let identities = seeding.seed(users)?;
        let command = seeding.serve(options);
        let log = seeding.directory.path().join("gateway.log");
        let (process, ready) = Process::start(command, &log)?;
        let server = Self {
            target: Target {
                address: ready.quic,
                others: Vec::new(),
                server_name: options.server_name.clone(),
                trust: Trust::Fingerprint(ready.certificate),
                apart: false,
            },
            pid: Some(process.child.id()),
            admin: ready.admin,
            process: Some(process),
            seeding: Some(seeding),
            link: None,
            packet_link,
        };
        Ok((server, identities))
    }

    /// A relay of this harness, as a process of its own.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn relay(options: &Options) -> anyhow::Result<Self> {
        let program = std::env::current_exe()?;
        let mut command = pinned(&program, options.server_cpus.as_deref());
        command.arg("relay-server").env(crate::PINNED, "1");
        if let Some(fault) = options.fault.and_then(|fault| fault.to_possible_value()) {
            command.args(["--fault", fault.get_name()]);
        }
        let directory = tempfile::tempdir()?;
        let (process, ready) = Process::start(command, &directory.path().join("relay.log"))?;
        let mut server = Self {
            target: Target {
                address: ready.quic,
                others: Vec::new(),
                server_name: "localhost".to_owned(),
                trust: Trust::Fingerprint(ready.certificate),
                apart: false,
            },
            pid: Some(process.child.id()),
            admin: None,
            process: Some(process),
            seeding: None,
            link: None,
            packet_link: None,
        };
        server.emulate(options)?;
        Ok(server)
    }

    /// Stops a server that was started here: asks, waits, insists.
    ///
    /// # Errors
    /// When it ended by itself before, or did not stop in an orderly way.
    pub fn stop(mut self) -> anyhow::Result<()> {
        let Some(mut process) = self.process.take() else {
            return Ok(());
        };
        let stopped = process.stop();
        drop(self.seeding.take());
        stopped
    }
}

/// A certificate in this directory, as the gateway's own one is for loopback addresses alone.
fn certificate(directory: &Path) -> anyhow::Result<[String; 2]> {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
    let setting = |name: &str, text: String| {
        let file = directory.join(name);
        std::fs::write(&file, text)?;
        anyhow::Ok(format!("tls.{name}={}", serde_json::Value::from(file.display().to_string())))
    };
    Ok([
        setting("certificate", made.cert.pem())?,
        setting("key", made.signing_key.serialize_pem())?,
    ])
}

/// The network to be emulated, if there is one.
fn emulated(options: &Options) -> Option<&Profile> {
    options.link.as_ref().filter(|profile| !profile.is_direct())
}

/// The settings of a gateway made for a run. Chat runs with its defaults; only
/// the limits on registrations and connects are lifted, as all users
/// come from one address here.
fn settings(options: &Options, directory: &Path) -> Vec<String> {
    let quoted = |value: &str| serde_json::Value::from(value).to_string();
    let storage = options
        .storage
        .clone()
        .unwrap_or_else(|| format!("sqlite:{}", directory.join("petrel.db").display()));
    let mut settings = vec![
        format!("data_dir={}", quoted(&directory.display().to_string())),
        format!("storage.url={}", quoted(&storage)),
        "gateway.listen=\"127.0.0.1:0\"".to_owned(),
        "admin.listen=\"127.0.0.1:0\"".to_owned(),
        "auth.registrations_per_s=1000000".to_owned(),
        "auth.registrations_burst=1000000".to_owned(),
        "gateway.connects_per_s=1000000".to_owned(),
        "gateway.connects_burst=1000000".to_owned(),
    ];
    if let Some(ms) = options.preview_after {
        settings.push(format!("message.preview_after=\"{ms}ms\""));
    }
    settings.extend(options.settings.iter().cloned());
    settings
}

impl Seeding {
    fn serve(&self, options: &Options) -> Command {
        let mut command = pinned(&self.program, options.server_cpus.as_deref());
        command.arg("serve");
        for setting in &self.settings {
            command.args(["--set", setting]);
        }
        command
    }

    /// Makes accounts in bulk, straight into the store.
    fn seed(&self, users: usize) -> anyhow::Result<Vec<Identity>> {
        let file = self.directory.path().join("users.jsonl");
        // Unlike those of any other run on the same database.
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
        let prefix = format!("lt{:x}-{:x}-", now.as_secs(), std::process::id());
        let mut command = Command::new(&self.program);
        command
            .args(["admin", "seed", "--users", &users.to_string()])
            .args(["--prefix", &prefix, "--out"])
            .arg(&file);
        for setting in &self.settings {
            command.args(["--set", setting]);
        }
        let out = command.output().context("petrel admin seed")?;
        if !out.status.success() {
            bail!(
                "petrel admin seed: {}: {}",
                out.status,
                String::from_utf8_lossy(&out.stderr).trim()
            );
        }
        let identities: Vec<Identity> = std::fs::read_to_string(&file)?
            .lines()
            .map(|line| serde_json::from_str(line).context("a line of petrel admin seed"))
            .collect::<anyhow::Result<_>>()?;
        if identities.len() != users {
            bail!("petrel admin seed made {} users of {users}", identities.len());
        }
        Ok(identities)
    }
}

/// `program`, on the given CPUs if there are any. `taskset` replaces itself by
/// the program, so that the child's pid is the program's.
fn pinned(program: &Path, cpus: Option<&str>) -> Command {
    match cpus {
        Some(list) => {
            let mut command = Command::new("taskset");
            command.args(["-c", list]).arg(program);
            command
        }
        None => Command::new(program),
    }
}

/// The gateway's binary: PETREL_BIN, or beside this one.
fn find_gateway() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os("PETREL_BIN") {
        let path = PathBuf::from(path);
        if path.is_file() {
            return Ok(path);
        }
        bail!("PETREL_BIN={}: no such file", path.display());
    }
    let own = std::env::current_exe()?;
    let beside = own.parent().map(|directory| directory.join("petrel"));
    beside.filter(|path| path.is_file()).ok_or_else(|| {
        anyhow!("no gateway beside {}: build it, or name it in PETREL_BIN", own.display())
    })
}

/// What a server says once it is ready.
#[derive(Debug)]
struct Ready {
    quic: SocketAddr,
    admin: Option<SocketAddr>,
    certificate: [u8; 32],
}

#[derive(Debug)]
struct Process {
    child: Child,
    log: String,
}

impl Process {
    fn start(mut command: Command, log: &Path) -> anyhow::Result<(Self, Ready)> {
        let stderr = std::fs::File::create(log)?;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        let stdout = child.stdout.take().context("the server's output")?;
        let (lines, said) = mpsc::sync_channel(1_024);
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // Full, or nobody listens any more: the pipe is drained all the same.
                drop(lines.try_send(line));
            }
        });
        let mut process = Self { child, log: String::new() };
        match await_ready(&said) {
            Ok(ready) => Ok((process, ready)),
            Err(error) => {
                process.kill();
                let text = std::fs::read_to_string(log).unwrap_or_default();
                let tail: Vec<&str> = text.lines().rev().take(10).collect();
                let tail: Vec<&str> = tail.into_iter().rev().collect();
                Err(error
                    .context(format!("the server did not start; it said:\n{}", tail.join("\n"))))
            }
        }
    }

    fn stop(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("the server ended by itself: {status} {}", self.log);
        }
        let asked = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let deadline = Instant::now() + STOP_TIMEOUT;
        while asked.is_ok() && Instant::now() < deadline {
            if self.child.try_wait()?.is_some() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.kill();
        bail!("the server did not stop within {} s", STOP_TIMEOUT.as_secs())
    }

    fn kill(&mut self) {
        // Fails only for a child that has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.kill();
        }
    }
}

fn await_ready(said: &mpsc::Receiver<String>) -> anyhow::Result<Ready> {
    let deadline = Instant::now() + START_TIMEOUT;
    let (mut quic, mut admin) = (None, None);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let line = said.recv_timeout(left).map_err(|error| match error {
            mpsc::RecvTimeoutError::Timeout => anyhow!("not ready after {START_TIMEOUT:?}"),
            mpsc::RecvTimeoutError::Disconnected => anyhow!("it ended before it was ready"),
        })?;
        if let Some(address) = line.strip_prefix("listening quic ") {
            quic = Some(address.trim().parse().context("listening quic")?);
        } else if let Some(address) = line.strip_prefix("listening admin ") {
            admin = Some(address.trim().parse().context("listening admin")?);
        } else if let Some(hex) = line.strip_prefix("certificate sha256 ") {
            return Ok(Ready {
                quic: quic.context("a certificate, but no address")?,
                admin,
                certificate: dial::parse_fingerprint(hex.trim())
                    .context("certificate sha256: no fingerprint")?,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    #[test]
    fn a_server_says_where_it_listens() {
        let (lines, said) = mpsc::sync_channel(8);
        for line in [
            "listening quic 127.0.0.1:4433".to_owned(),
            "listening admin 127.0.0.1:4480".to_owned(),
            format!("certificate sha256 {}", "ab".repeat(32)),
        ] {
            lines.send(line).unwrap();
        }
        let ready = await_ready(&said).unwrap();
        assert_eq!(ready.quic.port(), 4433);
        assert_eq!(ready.admin.unwrap().port(), 4480);
        assert_eq!(ready.certificate, [0xab; 32]);
    }

    #[test]
    fn a_server_that_ends_at_once_is_an_error_with_its_last_words() {
        let log = tempfile::NamedTempFile::new().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo no such port >&2; exit 3"]);
        let error = Process::start(command, log.path()).unwrap_err();
        assert!(format!("{error:#}").contains("no such port"), "{error:#}");
    }
}
