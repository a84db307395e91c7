//! A Redis server of one's own, for tests: on a free port of the loopback, without files, gone
//! when it is dropped.

use std::io;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::testing::{LOOK_AGAIN, PATIENCE, Server, kill, run};

/// A running private server.
#[derive(Debug)]
pub struct PrivateRedis {
    directory: TempDir,
    port: u16,
    password: Option<String>,
    server: Option<Server>,
}

impl PrivateRedis {
    /// Starts a server; blocks until it answers.
    ///
    /// # Errors
    /// No Redis is installed (the message says what to install), or it does not start.
    pub fn start() -> io::Result<Self> {
        Self::start_with(None)
    }

    /// The same with a password.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with(password: Option<&str>) -> io::Result<Self> {
        let mut last = None;
        // Another process may take the port between our look and the server's.
        for _ in 0..5 {
            let mut this = Self {
                directory: tempfile::Builder::new().prefix("petrel-redis-").tempdir()?,
                port: TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port(),
                password: password.map(str::to_owned),
                server: None,
            };
            match this.launch() {
                Ok(()) => return Ok(this),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| io::Error::other("Redis did not start")))
    }

    /// Its URL.
    pub fn url(&self) -> String {
        match &self.password {
            Some(password) => format!("redis://:{password}@127.0.0.1:{}/0", self.port),
            None => format!("redis://127.0.0.1:{}/0", self.port),
        }
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Asks it through `redis-cli`; gives the answer line by line.
    ///
    /// # Errors
    /// It does not answer, or with an error.
    pub fn ask(&self, words: &[&str]) -> io::Result<Vec<String>> {
        let mut command = Command::new("redis-cli");
        command.args(["-h", "127.0.0.1", "-e", "--raw", "-p"]).arg(self.port.to_string());
        if let Some(password) = &self.password {
            command.env("REDISCLI_AUTH", password);
        }
        command.args(words).stdin(Stdio::null());
        Ok(run(command)?.lines().map(str::to_owned).collect())
    }

    /// Stops it in its tracks (SIGSTOP): connections stay open and answer nothing.
    ///
    /// # Errors
    /// It is not running.
    pub fn pause(&self) -> io::Result<()> {
        kill("STOP", &[self.pid()?])
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// It is not running.
    pub fn unpause(&self) -> io::Result<()> {
        kill("CONT", &[self.pid()?])
    }

    /// Ends it without warning; what it held is gone.
    ///
    /// # Errors
    /// It does not end in time.
    pub fn stop(&mut self) -> io::Result<()> {
        let Some(server) = self.server.take() else { return Ok(()) };
        kill("KILL", &[server.pid])?;
        if server.has_ended(PATIENCE) {
            return Ok(());
        }
        self.server = Some(server);
        Err(io::Error::other("Redis did not end"))
    }

    /// Starts it again on the same port, empty.
    ///
    /// # Errors
    /// It does not start.
    pub fn start_again(&mut self) -> io::Result<()> {
        match self.server {
            Some(_) => Ok(()),
            None => self.launch(),
        }
    }

    fn pid(&self) -> io::Result<u32> {
        self.server
            .as_ref()
            .map(|server| server.pid)
            .ok_or_else(|| io::Error::other("the private Redis is not running"))
    }

    fn launch(&mut self) -> io::Result<()> {
        let program = find()?;
        // Should this process be killed, the server ends as well.
        let mut command = if Path::new("/usr/bin/setpriv").exists() {
            let mut command = Command::new("/usr/bin/setpriv");
            command.args(["--pdeathsig", "KILL", "--"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port"]);
        command.arg(self.port.to_string()).arg("--dir").arg(self.directory.path());
        if let Some(password) = &self.password {
            command.args(["--requirepass", password]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let server = Server::spawn(command)?;
        let deadline = Instant::now() + PATIENCE;
        while !matches!(self.ask(&["PING"]).as_deref(), Ok([pong]) if pong == "PONG") {
            if server.has_ended(LOOK_AGAIN) || Instant::now() > deadline {
                return Err(io::Error::other("the private Redis did not start"));
            }
        }
        self.server = Some(server);
        Ok(())
    }
}

impl Drop for PrivateRedis {
    fn drop(&mut self) {
        // Of a failure here nothing is left to be done.
        if let Some(server) = self.server.take() {
            kill("KILL", &[server.pid]).ok();
            server.has_ended(Duration::from_secs(5));
        }
    }
}

fn find() -> io::Result<std::path::PathBuf> {
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&on_path)
        .chain(["/usr/bin".into(), "/usr/local/bin".into()])
        .map(|directory| directory.join("redis-server"))
        .find(|program| program.exists())
        .ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::NotFound,
                "no redis-server is installed; install one: apt-get install redis-server",
            )
        })
}
