//! The server as a child process: started, watched, heard, stopped.

use std::process::ExitStatus;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Child;
use tokio::time::timeout;

use super::cluster::command;
use super::output::Output;
use super::plan::Plan;
use super::{PostgresError, settings};

/// A server that was killed replays up to `max_wal_size` of its log before it is ready.
const READY_SECONDS_MAX: u64 = 600;
/// Together they leave the rest of the daemon most of the 10 s that a stop may take.
const FAST_STOP: Duration = Duration::from_secs(2);
const IMMEDIATE_STOP: Duration = Duration::from_millis(500);

/// A running server; one that is dropped is told to stop, and not waited for.
pub(super) struct Process {
    child: Child,
    output: Output,
}

impl Process {
    pub(super) fn spawn(plan: &Plan) -> Result<Self, PostgresError> {
        let program = plan.install.program("postgres");
        let mut postgres = command(program.as_os_str(), &plan.user);
        postgres.args(settings::arguments(&plan.layout)).stdout(std::process::Stdio::null());
        postgres.stderr(std::process::Stdio::piped());
        let doing = format!("run {} as {}", program.display(), plan.user.name);
        let mut child = postgres.spawn().map_err(PostgresError::doing(doing))?;
        let output = Output::listen(child.stderr.take());
        Ok(Self { child, output })
    }

    /// Waits until the server takes connections.
    pub(super) async fn ready(&mut self) -> Result<(), PostgresError> {
        let limit = Duration::from_secs(READY_SECONDS_MAX);
        let ready = self.output.ready();
        let is_ready = tokio::select! {
            is_ready = timeout(limit, ready) => is_ready,
            said = ended(&mut self.child, &mut self.output) => {
                return Err(PostgresError::Failed { program: "postgres", said });
            }
        };
        is_ready.map_err(|_| PostgresError::NotReady {
            seconds: READY_SECONDS_MAX,
            said: self.output.last_said(),
        })
    }

    /// Waits until the server has ended by itself, and tells how.
    pub(super) async fn ended(&mut self) -> String {
        ended(&mut self.child, &mut self.output).await
    }

    /// Stops the server: in order, else at once, else by force. Nothing is lost either way.
    pub(super) async fn stop(&mut self) {
        for (signal, grace) in [(Signal::SIGINT, FAST_STOP), (Signal::SIGQUIT, IMMEDIATE_STOP)] {
            self.signal(signal);
            if timeout(grace, self.child.wait()).await.is_ok() {
                return;
            }
            tracing::warn!(grace_ms = grace.as_millis(), "PostgreSQL does not stop on {signal}");
        }
        if let Err(error) = self.child.kill().await {
            tracing::error!(%error, "failed to kill PostgreSQL");
        }
    }

    /// The number of the server's process, while it runs.
    pub(super) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    fn signal(&self, signal: Signal) {
        // A child that has been waited for has no number, so no other process is ever hit.
        if let Some(pid) = self.child.id().and_then(|pid| i32::try_from(pid).ok()) {
            // It fails only where the child has just ended, which the caller's wait shows.
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(Signal::SIGINT);
    }
}

async fn ended(child: &mut Child, output: &mut Output) -> String {
    let how = match child.wait().await {
        Ok(status) => describe(status),
        Err(error) => format!("its end cannot be awaited: {error}"),
    };
    output.drain().await;
    match output.last_said() {
        said if said.is_empty() => how,
        said => format!("{how}; it said: {said}"),
    }
}

fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("it ended with code {code}"),
        (None, Some(signal)) => format!("it was ended by signal {signal}"),
        (None, None) => status.to_string(),
    }
}
