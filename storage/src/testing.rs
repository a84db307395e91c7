//! A PostgreSQL server of one's own, for tests: made in a temporary directory,
//! reachable on a free port of the loopback, gone when it is dropped. It
//! flushes like a production server (`fsync=on`).
//!
//! Nothing here may be used by a gateway; hence the feature `testing`.

mod write_lock;

use std::fs;
use std::io::{self, BufRead as _, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use tempfile::TempDir;

pub use write_lock::WriteLock;

/// The super-user of a private server; it needs no password.
const USER: &str = "petrel";
/// How long a server may take to accept connections, or to end.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at a condition that has no event.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// How a server is told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Connections are cut, transactions rolled back, everything written.
    Fast,
    /// At once, as in a crash: the next start recovers from the log.
    Immediate,
}

/// A running private server.
#[derive(Debug)]
pub struct PrivatePostgres {
    directory: TempDir,
    bin: PathBuf,
    owner: Option<(u32, u32)>,
    port: u16,
    server: Option<Server>,
}

#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) pid: u32,
    ended: Receiver<io::Result<ExitStatus>>,
}

impl PrivatePostgres {
    /// Makes a cluster and starts a server for it; blocks until it accepts
    /// connections.
    ///
    /// # Errors
    /// No PostgreSQL is installed (the message says what to install), or it does not start.
    pub fn start() -> io::Result<Self> {
        let bin = find_binaries()?;
        let owner = unprivileged_owner()?;
        let directory = tempfile::Builder::new().prefix("petrel-pg-").tempdir()?;
        if let Some((uid, gid)) = owner {
            chown(directory.path(), Some(uid), Some(gid))?;
        }
        let mut this = Self { directory, bin, owner, port: 0, server: None };
        this.init()?;
        // Another process may take the port between our look and the server's.
        let mut last = None;
        for _ in 0..5 {
            this.port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
            match this.launch() {
                Ok(()) => return Ok(this),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| io::Error::other("PostgreSQL did not start")))
    }

    /// The URL of a database of this server; `postgres` exists from the start.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{USER}@127.0.0.1:{}/{database}", self.port)
    }

    /// The same over the Unix socket.
    pub fn socket_url(&self, database: &str) -> String {
        format!(
            "postgres://{USER}@localhost:{}/{database}?host={}",
            self.port,
            self.directory.path().display()
        )
    }

    /// The TCP port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Makes an empty database and gives its URL.
    ///
    /// # Errors
    /// The server refuses, for instance because the name is taken.
    pub fn create_database(&self, name: &str) -> io::Result<String> {
        let mut command = self.command("createdb");
        command.args(["-h", "127.0.0.1", "-U", USER, "-p"]);
        command.arg(self.port.to_string()).arg(name);
        run(command)?;
        Ok(self.url(name))
    }

    /// Runs SQL through `psql` and gives what it printed, unaligned, without headings.
    ///
    /// # Errors
    /// The server cannot be reached, or refuses a statement.
    pub fn sql(&self, database: &str, text: &str) -> io::Result<String> {
        let mut command = self.command("psql");
        command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1"]);
        command.args(["-U", USER, "-d", database, "-c", text, "-p"]);
        command.arg(self.port.to_string());
        run(command)
    }

    /// Ends the server and waits until it is gone; its data stay.
    ///
    /// # Errors
    /// It does not end in time.
    pub fn stop(&mut self, how: Stop) -> io::Result<()> {
        let signal = match how {
            Stop::Fast => "INT",
            Stop::Immediate => "QUIT",
        };
        let Some(server) = self.server.take() else {
            return Ok(());
        };
        kill(signal, &[server.pid])?;
        if server.has_ended(PATIENCE) {
            return Ok(());
        }
        self.server = Some(server);
        Err(io::Error::other(format!("PostgreSQL did not end within {PATIENCE:?} of SIG{signal}")))
    }

    /// Starts a server that was stopped, on the same port and data.
    ///
    /// # Errors
    /// It does not start.
    pub fn start_again(&mut self) -> io::Result<()> {
        match self.server {
            Some(_) => Ok(()),
            None => self.launch(),
        }
    }

    /// [`Self::stop`], then [`Self::start_again`].
    ///
    /// # Errors
    /// Either fails.
    pub fn restart(&mut self, how: Stop) -> io::Result<()> {
        self.stop(how)?;
        self.start_again()
    }

    /// Starts another server that follows this one, whose commits wait for it from now on.
    ///
    /// # Errors
    /// This one is not running, or the copy cannot be made or started.
    pub fn standby(&self) -> io::Result<Self> {
        let directory = tempfile::Builder::new().prefix("petrel-pg-").tempdir()?;
        if let Some((uid, gid)) = self.owner {
            chown(directory.path(), Some(uid), Some(gid))?;
        }
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let bin = self.bin.clone();
        let mut standby = Self { directory, bin, owner: self.owner, port, server: None };
        let mut copying = standby.command("pg_basebackup");
        copying.args(["-h", "127.0.0.1", "-U", USER, "-X", "stream", "-c", "fast", "-R", "-p"]);
        copying.arg(self.port.to_string()).arg("-D").arg(standby.data());
        run(copying)?;
        standby.launch()?;
        self.sql("postgres", "ALTER SYSTEM SET synchronous_standby_names = '*'")?;
        self.sql("postgres", "SELECT pg_reload_conf()")?;
        Ok(standby)
    }

    /// A standby becomes a primary.
    ///
    /// # Errors
    /// It is none, or is not running.
    pub fn promote(&self) -> io::Result<()> {
        self.sql("postgres", "SELECT pg_promote(true, 30)").map(drop)
    }

    /// Refuses all writes from now on, or takes them again.
    ///
    /// # Errors
    /// The server is not running.
    pub fn read_only(&self, is_read_only: bool) -> io::Result<()> {
        let value = if is_read_only { "on" } else { "off" };
        self.sql("postgres", &format!("ALTER SYSTEM SET default_transaction_read_only = {value}"))?;
        self.sql("postgres", "SELECT pg_reload_conf()").map(drop)
    }

    /// Stops every process of the server in its tracks (SIGSTOP): connections
    /// stay open and answer nothing.
    ///
    /// # Errors
    /// The server is not running.
    pub fn pause(&self) -> io::Result<()> {
        let pid = self.pid()?;
        kill("STOP", &[pid])?;
        // The first process is stopped, so no child can be added any more.
        kill("STOP", &children(pid)?)
    }

    /// Lets a paused server go on.
    ///
    /// # Errors
    /// The server is not running.
    pub fn unpause(&self) -> io::Result<()> {
        let pid = self.pid()?;
        kill("CONT", &children(pid)?)?;
        kill("CONT", &[pid])
    }

    fn pid(&self) -> io::Result<u32> {
        self.server
            .as_ref()
            .map(|server| server.pid)
            .ok_or_else(|| io::Error::other("the private PostgreSQL is not running"))
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// A program of the server's, run as the owner of its files.
    fn command(&self, program: &str) -> Command {
        self.owned(Command::new(self.bin.join(program)))
    }

    fn owned(&self, mut command: Command) -> Command {
        if let Some((uid, gid)) = self.owner {
            command.uid(uid).gid(gid);
        }
        command
            .current_dir(self.directory.path())
            .env("LC_ALL", "C.UTF-8")
            .env("HOME", self.directory.path())
            .stdin(Stdio::null());
        command
    }

    fn init(&self) -> io::Result<()> {
        let mut command = self.command("initdb");
        command.args(["-U", USER, "-A", "trust", "-E", "UTF8", "--no-sync", "-D"]);
        command.arg(self.data());
        run(command).map(drop)
    }

    fn launch(&mut self) -> io::Result<()> {
        // Should this process be killed, the server ends as well (SIGQUIT: at once).
        let mut command = if Path::new("/usr/bin/setpriv").exists() {
            let mut command = self.owned(Command::new("/usr/bin/setpriv"));
            command.args(["--pdeathsig", "QUIT", "--"]);
            command.arg(self.bin.join("postgres"));
            command
        } else {
            self.command("postgres")
        };
        command.arg("-D").arg(self.data());
        command.args(["-p", &self.port.to_string(), "-k"]);
        command.arg(self.directory.path());
        for setting in [
            "listen_addresses=127.0.0.1",
            "fsync=on",
            "synchronous_commit=on",
            "shared_buffers=128MB",
            "max_wal_size=1GB",
            "max_connections=60",
            "dynamic_shared_memory_type=mmap",
        ] {
            command.args(["-c", setting]);
        }
        let log = self.directory.path().join("server.log");
        let output = fs::File::options().create(true).append(true).open(&log)?;
        command.stdout(output.try_clone()?).stderr(output);
        let server = Server::spawn(command)?;
        let deadline = Instant::now() + PATIENCE;
        while !self.is_ready()? {
            if server.has_ended(LOOK_AGAIN) || Instant::now() > deadline {
                let told = fs::read_to_string(&log).unwrap_or_default();
                return Err(io::Error::other(format!(
                    "the private PostgreSQL did not start; its log says:\n{told}"
                )));
            }
        }
        self.server = Some(server);
        Ok(())
    }

    fn is_ready(&self) -> io::Result<bool> {
        let mut command = self.command("pg_isready");
        command.args(["-q", "-h", "127.0.0.1", "-U", USER, "-d", "postgres", "-p"]);
        command.arg(self.port.to_string());
        Ok(command.status()?.success())
    }
}

impl Drop for PrivatePostgres {
    fn drop(&mut self) {
        let Some(server) = self.server.take() else {
            return;
        };
        // A paused server takes no other signal; of a failure here nothing is left to be done.
        self.server = None;
        let mut all = children(server.pid).unwrap_or_default();
        all.push(server.pid);
        kill("CONT", &all).ok();
        kill("QUIT", &[server.pid]).ok();
        if !server.has_ended(Duration::from_secs(10)) {
            all = children(server.pid).unwrap_or_default();
            all.push(server.pid);
            kill("KILL", &all).ok();
            server.has_ended(Duration::from_secs(5));
        }
    }
}

impl Server {
    /// On a thread that stays until the server ends: the signal of
    /// `--pdeathsig` comes when the *thread* that started the process ends.
    pub(crate) fn spawn(mut command: Command) -> io::Result<Self> {
        let (started, start) = sync_channel(1);
        let (end, ended) = sync_channel(1);
        std::thread::Builder::new().name("private-server".to_owned()).spawn(
            move || match command.spawn() {
                Ok(mut child) => {
                    started.send(Ok(child.id())).ok();
                    end.send(child.wait()).ok();
                }
                Err(error) => {
                    started.send(Err(error)).ok();
                }
            },
        )?;
        let pid = start
            .recv()
            .map_err(|_| io::Error::other("the thread that starts the server ended"))??;
        Ok(Self { pid, ended })
    }

    /// Waits for its end, at the most so long.
    pub(crate) fn has_ended(&self, wait: Duration) -> bool {
        !matches!(self.ended.recv_timeout(wait), Err(RecvTimeoutError::Timeout))
    }
}

fn find_binaries() -> io::Result<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    found.sort();
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    found
        .into_iter()
        .rev()
        .map(|(_, bin)| bin)
        .chain(std::env::split_paths(&on_path))
        .find(|bin| bin.join("initdb").exists() && bin.join("postgres").exists())
        .ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::NotFound,
                "no PostgreSQL server is installed (initdb in /usr/lib/postgresql/*/bin or PATH); \
                 install one: apt-get install postgresql",
            )
        })
}

/// PostgreSQL refuses to run as root; then its files belong to `postgres` or `nobody`.
fn unprivileged_owner() -> io::Result<Option<(u32, u32)>> {
    use std::os::unix::fs::MetadataExt as _;
    if fs::metadata("/proc/self")?.uid() != 0 {
        return Ok(None);
    }
    let users: Vec<String> =
        BufReader::new(fs::File::open("/etc/passwd")?).lines().collect::<io::Result<_>>()?;
    ["postgres", "nobody"]
        .iter()
        .find_map(|wanted| {
            users.iter().find_map(|line| {
                let mut fields = line.split(':');
                (fields.next()? == *wanted).then_some(())?;
                Some((fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?))
            })
        })
        .map(Some)
        .ok_or_else(|| {
            io::Error::other("neither a user `postgres` nor `nobody` to run PostgreSQL as")
        })
}

pub(crate) fn run(mut command: Command) -> io::Result<String> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned());
    }
    Err(io::Error::other(format!(
        "{}: {}",
        command.get_program().display(),
        String::from_utf8_lossy(&output.stderr)
    )))
}

pub(crate) fn kill(signal: &str, pids: &[u32]) -> io::Result<()> {
    if pids.is_empty() {
        return Ok(());
    }
    let mut command = Command::new("kill");
    command.arg(format!("-{signal}"));
    command.args(pids.iter().map(u32::to_string));
    run(command).map(drop)
}

fn children(parent: u32) -> io::Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // "pid (name) state parent ...": the name may hold anything but the last ')'.
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let of =
            stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)?.parse().ok());
        if of == Some(parent) {
            found.push(pid);
        }
    }
    Ok(found)
}
