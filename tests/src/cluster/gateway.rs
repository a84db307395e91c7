//! One gateway process.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output as Said, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use parking_lot::Mutex;
use petrel_client::{Dialer, DialerOptions, Server, Transports, Trust};
use petrel_storage::testing::PrivatePostgres;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

use super::PATIENCE;

/// Lines of output that are kept.
const LINES_MAX: usize = 4_000;
/// Ports that are tried: below those that the kernel gives to clients, so that none of them
/// takes a gateway's port while it is down.
const PORTS: std::ops::Range<u16> = 10_240..32_768;
/// Starts that are tried, each with other ports.
const STARTS_MAX: usize = 5;

/// Where a gateway keeps messages.
#[derive(Clone, Copy, Debug)]
pub enum Storage<'a> {
    /// `petrel.db` in its data directory.
    Sqlite,
    /// A new database of this server.
    Postgres(&'a PrivatePostgres),
    /// A database that exists, perhaps with another gateway on it.
    Url(&'a str),
}

/// How a gateway is started.
#[derive(Clone, Debug, Default)]
pub struct GatewayOptions {
    /// `section.key=value`, as of `--set`.
    pub settings: Vec<String>,
    /// A data directory to share, for a second gateway of one service (the same token key
    /// and certificate). `None`: a new one.
    pub data: Option<Arc<TempDir>>,
}

/// What is sent to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Stop gracefully.
    Terminate,
    /// Stop in its tracks.
    Pause,
    /// Go on.
    Continue,
    /// End without warning.
    Kill,
}

/// A gateway process. It is killed when this is dropped.
#[derive(Debug)]
pub struct Gateway {
    /// Where QUIC listens; the same after a restart.
    pub quic: SocketAddr,
    /// Where admin HTTP listens; the same after a restart.
    pub admin: SocketAddr,
    /// SHA-256 of its certificate, in hexadecimal.
    pub fingerprint: String,
    /// `storage.url`, if it is set.
    pub storage_url: Option<String>,
    data: Arc<TempDir>,
    settings: Vec<String>,
    child: Option<Child>,
    output: Arc<Output>,
}

#[derive(Debug)]
struct Output {
    lines: Mutex<VecDeque<String>>,
    /// How many there were.
    count: watch::Sender<u64>,
}

impl Gateway {
    /// Starts a gateway with a new data directory and waits until it serves.
    ///
    /// # Errors
    /// It is not built, refuses its settings, or does not serve in time.
    pub async fn start(storage: Storage<'_>, settings: &[&str]) -> Result<Self> {
        let settings = settings.iter().map(|&s| s.to_owned()).collect();
        Self::start_with(storage, GatewayOptions { settings, data: None }).await
    }

    /// The same with all options.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_with(storage: Storage<'_>, options: GatewayOptions) -> Result<Self> {
        let storage_url = match storage {
            Storage::Sqlite => None,
            Storage::Url(url) => Some(url.to_owned()),
            Storage::Postgres(server) => {
                let name = format!("petrel_{:016x}", rand::random::<u64>());
                Some(server.create_database(&name).context("the private PostgreSQL")?)
            }
        };
        let data = match options.data {
            Some(data) => data,
            None => Arc::new(tempfile::Builder::new().prefix("petrel-").tempdir()?),
        };
        let mut failed = None;
        for _ in 0..STARTS_MAX {
            let mut gateway = Self {
                quic: free_port(|at| {
                    std::net::UdpSocket::bind(at)?;
                    std::net::TcpListener::bind(at).map(drop)
                })?,
                admin: free_port(|at| std::net::TcpListener::bind(at).map(drop))?,
                fingerprint: String::new(),
                storage_url: storage_url.clone(),
                data: Arc::clone(&data),
                settings: options.settings.clone(),
                child: None,
                output: Arc::new(Output { lines: Mutex::default(), count: watch::Sender::new(0) }),
            };
            match gateway.launch().await {
                Ok(()) => return Ok(gateway),
                // Another process took the port meanwhile.
                Err(error) if format!("{error:#}").contains("cannot use") => failed = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(failed.unwrap_or_else(|| anyhow::anyhow!("no free port")))
    }

    /// Another gateway process of the same service: the same store, key and certificate.
    ///
    /// # Errors
    /// The store is SQLite, which serves one gateway; or as [`Self::start`].
    pub async fn beside(&self, settings: &[&str]) -> Result<Self> {
        let mut all = self.settings.clone();
        all.extend(settings.iter().map(|&s| s.to_owned()));
        self.with_its_own(all).await
    }

    /// The same with other settings than this one's.
    ///
    /// # Errors
    /// As [`Self::beside`].
    pub async fn with_its_own(&self, settings: Vec<String>) -> Result<Self> {
        let url = self.storage_url.as_deref().context("SQLite serves one gateway alone")?;
        let options = GatewayOptions { settings, data: Some(Arc::clone(&self.data)) };
        Box::pin(Self::start_with(Storage::Url(url), options)).await
    }

    /// Starts it again after its end: same ports, same data, same settings.
    ///
    /// # Errors
    /// It still runs; or as [`Self::start`].
    pub async fn restart(&mut self) -> Result<()> {
        ensure!(self.child.is_none(), "the gateway still runs");
        self.launch().await
    }

    /// From the next start on these settings hold too.
    pub fn set(&mut self, setting: &str) {
        self.settings.push(setting.to_owned());
    }

    async fn launch(&mut self) -> Result<()> {
        let binary = binary()?;
        let mut command = Command::new(&binary);
        command.arg("serve");
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PETREL__") {
                command.env_remove(name);
            }
        }
        let mut set = |setting: String| {
            command.arg("--set").arg(setting);
        };
        set(format!("data_dir={}", self.data.path().display()));
        set(format!("gateway.listen={}", self.quic));
        set(format!("admin.listen={}", self.admin));
        if let Some(url) = &self.storage_url {
            set(format!("storage.url={url}"));
        }
        self.settings.iter().cloned().for_each(&mut set);
        command.current_dir(self.data.path()).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child =
            command.spawn().with_context(|| format!("cannot run {}", binary.display()))?;
        let from = *self.output.count.borrow();
        let pid = child.id().unwrap_or_default();
        let reading = [
            child.stdout.take().map(|o| self.output.follow(pid, o)),
            child.stderr.take().map(|o| self.output.follow(pid, o)),
        ];
        self.child = Some(child);
        let announced = self.announced(from).await;
        if announced.is_err() {
            self.signal(Signal::Kill).ok();
            self.wait(PATIENCE).await.ok();
            for task in reading.into_iter().flatten() {
                task.await.ok();
            }
        }
        self.fingerprint = announced.with_context(|| {
            let lines: Vec<String> = self.output.since(from);
            format!("the gateway does not serve; it said:\n{}", lines.join("\n"))
        })?;
        Ok(())
    }

    /// Waits for the lines that say it serves.
    async fn announced(&mut self, from: u64) -> Result<String> {
        let output = Arc::clone(&self.output);
        let mut count = output.count.subscribe();
        let child = self.child.as_mut().context("not started")?;
        let serving = async {
            loop {
                count.borrow_and_update();
                let lines = output.since(from);
                let value = |key: &str| {
                    lines.iter().find_map(|line| line.strip_prefix(key)).map(str::to_owned)
                };
                if let Some(fingerprint) = value("certificate sha256 ") {
                    let listening = (value("listening quic "), value("listening admin "));
                    ensure!(
                        listening == (Some(self.quic.to_string()), Some(self.admin.to_string())),
                        "it listens elsewhere: {listening:?}"
                    );
                    return Ok(fingerprint);
                }
                count.changed().await.context("its output ended")?;
            }
        };
        tokio::select! {
            fingerprint = serving => fingerprint,
            status = child.wait() => bail!("it ended with {}", status?),
            () = tokio::time::sleep(PATIENCE) => bail!("not within {PATIENCE:?}"),
        }
    }

    /// Whether the process runs (or is paused).
    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Its process id, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// It does not run.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        let child = self.child.as_mut().context("the gateway does not run")?;
        let name = match signal {
            Signal::Kill => return child.start_kill().context("cannot kill the gateway"),
            Signal::Terminate => "TERM",
            Signal::Pause => "STOP",
            Signal::Continue => "CONT",
        };
        let pid = child.id().context("the gateway has ended")?;
        let status =
            std::process::Command::new("kill").args([format!("-{name}"), pid.to_string()]).status();
        ensure!(status.context("kill (package procps)")?.success(), "cannot send SIG{name}");
        Ok(())
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It goes on beyond `patience`.
    pub async fn wait(&mut self, patience: Duration) -> Result<ExitStatus> {
        let child = self.child.as_mut().context("the gateway does not run")?;
        let status = tokio::time::timeout(patience, child.wait())
            .await
            .with_context(|| format!("the gateway did not end within {patience:?}"))??;
        self.child = None;
        Ok(status)
    }

    /// `kill -9`, and waits until it is gone.
    ///
    /// # Errors
    /// It does not run.
    pub async fn kill(&mut self) -> Result<()> {
        self.signal(Signal::Kill)?;
        self.wait(PATIENCE).await.map(drop)
    }

    /// SIGTERM, and waits for its end.
    ///
    /// # Errors
    /// It does not run, or does not end.
    pub async fn terminate(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::Terminate)?;
        self.wait(PATIENCE).await
    }

    /// The directory of its keys, its certificate and perhaps its store.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        self.data.path()
    }

    /// What it has printed, the last few thousand lines.
    #[must_use]
    pub fn output(&self) -> Vec<String> {
        self.output.since(0)
    }

    /// Believes its certificate.
    ///
    /// # Errors
    /// What it printed is no fingerprint.
    pub fn trust(&self) -> Result<Trust> {
        Ok(Trust::from_fingerprint_hex(&self.fingerprint)?)
    }

    /// Runs the program beside it, with the settings by which it finds this gateway.
    ///
    /// # Errors
    /// As [`Self::run_with`].
    pub async fn run(&self, arguments: &[&str]) -> Result<Said> {
        let data = format!("data_dir={}", self.data.path().display());
        let settings = [data, format!("admin.listen={}", self.admin)];
        self.run_with(&settings, arguments, "").await
    }

    /// The same with settings of its own, and this on its standard input.
    ///
    /// # Errors
    /// It does not run, or not end in time.
    pub async fn run_with(
        &self,
        settings: &[String],
        arguments: &[&str],
        input: &str,
    ) -> Result<Said> {
        let mut command = Command::new(binary()?);
        command.args(arguments);
        for setting in settings {
            command.args(["--set", setting]);
        }
        command.env_clear().current_dir(self.data.path()).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("cannot run the program")?;
        let mut stdin = child.stdin.take().context("no standard input")?;
        // It may end without reading it.
        stdin.write_all(input.as_bytes()).await.ok();
        drop(stdin);
        let ending = tokio::time::timeout(PATIENCE, child.wait_with_output());
        Ok(ending.await.context("no end")??)
    }

    /// Reaches it.
    ///
    /// # Errors
    /// As [`Self::trust`].
    pub fn dialer(&self) -> Result<Dialer> {
        Ok(Dialer::new(self.dialer_options()?)?)
    }

    /// The same, to be changed.
    ///
    /// # Errors
    /// As [`Self::trust`].
    pub fn dialer_options(&self) -> Result<DialerOptions> {
        let server = Server::Addresses(vec![self.quic]);
        let mut options = DialerOptions::new(server, "localhost", self.trust()?);
        // Whoever means TCP says so: on a busy machine it may win a race that no story is about.
        options.transports = Transports::Quic;
        Ok(options)
    }
}

impl Output {
    #[allow(clippy::disallowed_methods, reason = "it ends with the process whose output it reads")]
    fn follow(
        self: &Arc<Self>,
        pid: u32,
        from: impl AsyncRead + Unpin + Send + 'static,
    ) -> tokio::task::JoinHandle<()> {
        let output = Arc::clone(self);
        tokio::spawn(async move {
            let mut lines = BufReader::new(from).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                output.push(pid, line);
            }
        })
    }

    #[allow(clippy::print_stderr, reason = "the test runner shows it when the test fails")]
    fn push(&self, pid: u32, line: String) {
        eprintln!("[gateway {pid}] {line}");
        let mut lines = self.lines.lock();
        if lines.len() == LINES_MAX {
            lines.pop_front();
        }
        lines.push_back(line);
        // Under the lock: whoever reads the lines counts from their end.
        self.count.send_modify(|count| *count += 1);
    }

    /// The lines after the first `from`, as far as they are kept.
    fn since(&self, from: u64) -> Vec<String> {
        let lines = self.lines.lock();
        let fresh = usize::try_from(*self.count.borrow() - from).unwrap_or(usize::MAX);
        lines.iter().skip(lines.len().saturating_sub(fresh)).cloned().collect()
    }
}

fn free_port(bind: impl Fn(SocketAddr) -> std::io::Result<()>) -> Result<SocketAddr> {
    for _ in 0..100 {
        let at = SocketAddr::from(([127, 0, 0, 1], rand::random_range(PORTS)));
        if bind(at).is_ok() {
            return Ok(at);
        }
    }
    bail!("no free port in {PORTS:?}")
}

/// The gateway's binary: beside the test's own (`target/PROFILE/deps/TEST`).
///
/// # Errors
/// It is not there; the text says how to build it.
pub fn binary() -> Result<PathBuf> {
    let test = std::env::current_exe().context("where is this test?")?;
    let profile = test
        .ancestors()
        .find(|dir| dir.file_name().is_some_and(|name| name == "deps"))
        .and_then(Path::parent)
        .or_else(|| test.parent())
        .context("this test is in no target directory")?;
    let binary = profile.join("petrel");
    if binary.exists() {
        return Ok(binary);
    }
    let mut text =
        format!("there is no {}; build it: cargo build -p petrel-gateway", binary.display());
    if let Some(profile) = profile.file_name().filter(|&name| name != "debug") {
        write!(text, " --profile {}", profile.display())?;
    }
    bail!(text)
}
