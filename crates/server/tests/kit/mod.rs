//! What the tests with real processes share.

use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// Longer than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// A directory that the user who runs Postgres can enter.
pub(crate) fn open_directory() -> TempDir {
    tempfile::Builder::new()
        .prefix("bruri-")
        .permissions(Permissions::from_mode(0o755))
        .tempdir_in("/tmp")
        .unwrap()
}

/// The process that serves the cluster in this data directory.
pub(crate) fn postmaster(data_dir: &Path) -> i32 {
    let lock = fs::read_to_string(data_dir.join("postgres/data/postmaster.pid")).unwrap();
    lock.lines().next().unwrap().parse().unwrap()
}

/// Sends `signal` to a process that a test has started.
pub(crate) fn send(signal: Signal, process: i32) {
    kill(Pid::from_raw(process), signal).unwrap();
}

/// True while there is such a process, and it has not ended.
pub(crate) fn lives(process: i32) -> bool {
    fs::read(format!("/proc/{process}/cmdline")).is_ok_and(|line| !line.is_empty())
}

/// A `brurid` as an operator runs it; killed with its Postgres at the end of the test.
pub(crate) struct Brurid {
    child: Child,
    lines: Receiver<String>,
    said: Vec<String>,
}

impl Brurid {
    /// Starts `brurid serve` with this data directory and free ports.
    pub(crate) fn start(data_dir: &Path, variables: &[(&str, &str)]) -> Self {
        Self::run(command(data_dir).arg("serve").envs(variables.iter().copied()))
    }

    /// As [`Brurid::start`], with a configuration file.
    pub(crate) fn start_with(data_dir: &Path, file: &Path) -> Self {
        Self::run(command(data_dir).args(["serve", "--config"]).arg(file))
    }

    fn run(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Self { child, lines, said: Vec::new() }
    }

    /// Waits for a line with `part` and returns it.
    pub(crate) fn says(&mut self, part: &str) -> String {
        let began = Instant::now();
        while let Ok(line) = self.lines.recv_timeout(PATIENCE.saturating_sub(began.elapsed())) {
            self.said.push(line.clone());
            if line.contains(part) {
                return line;
            }
        }
        panic!("never said {part:?}, but:\n{}", self.said.join("\n"));
    }

    /// Waits until the site serves; returns the line that tells how to look into its database.
    pub(crate) fn serves(&mut self) -> String {
        let line = self.says("to look into the database: ");
        self.says("ready site.name=london");
        line
    }

    pub(crate) fn signal(&self, signal: Signal) {
        send(signal, i32::try_from(self.child.id()).unwrap());
    }

    /// Waits for its end.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Brurid {
    fn drop(&mut self) {
        // In order, so that no Postgres outlives the test.
        if matches!(self.child.try_wait(), Ok(None)) {
            self.signal(Signal::SIGTERM);
            let _ = self.child.wait();
        }
    }
}

/// `brurid` with a configuration that collides with nothing.
pub(crate) fn command(data_dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_brurid"));
    command
        .env("BRURI_SITE__NAME", "london")
        .env("BRURI_SITE__DATA_DIR", data_dir)
        .env("BRURI_EDGE__HTTP", "127.0.0.1:0")
        .env("BRURI_REPLICATION__LISTEN", "127.0.0.1:0")
        .env("BRURI_TELEMETRY__METRICS", "127.0.0.1:0");
    command
}
