//! Stops the Postgres that a killed `brurid` left behind, once sure that it is that one.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::{Instant, sleep};

use super::PostgresError;

/// A fast shutdown writes a checkpoint; where that takes longer the log is replayed instead.
const FAST_STOP: Duration = Duration::from_secs(5);
/// An immediate shutdown ends its own processes by force after 5 s.
const IMMEDIATE_STOP: Duration = Duration::from_secs(10);
/// There is no event for the end of a process that is not our child.
const POLL: Duration = Duration::from_millis(5);

/// Stops the server that runs on the cluster `data`, or removes its lock where it is gone. Only for
/// the owner of the data directory: nobody else can be starting a server there.
pub(super) async fn stop(data: &Path) -> Result<(), PostgresError> {
    let lock = data.join("postmaster.pid");
    let Some(text) = read(&lock)? else { return Ok(()) };
    let Some(pid) = runs_on(&text, data) else {
        // Its number may by now be another process's, which would make Postgres refuse to start.
        return fs::remove_file(&lock)
            .map_err(PostgresError::doing(format!("remove {}", lock.display())));
    };
    tracing::warn!(process.id = pid, "stopping the PostgreSQL that a killed brurid left");
    for (signal, grace) in [(Signal::SIGINT, FAST_STOP), (Signal::SIGQUIT, IMMEDIATE_STOP)] {
        // An error means that it ended meanwhile, or that it stays: the wait below tells.
        let _ = kill(Pid::from_raw(pid), signal);
        if is_gone_within(grace, pid, data).await {
            return Ok(());
        }
    }
    Err(PostgresError::StaleStays { pid })
}

fn read(lock: &Path) -> Result<Option<String>, PostgresError> {
    match fs::read_to_string(lock) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(PostgresError::doing(format!("read {}", lock.display()))(error)),
    }
}

/// The process that the lock's first line names, if it is a server of the cluster `data`.
fn runs_on(lock: &str, data: &Path) -> Option<i32> {
    let pid: i32 = lock.lines().next()?.trim().parse().ok()?;
    (pid > 1 && is_server_of(pid, data)).then_some(pid)
}

/// A number alone proves nothing: processes come and go, and their numbers are used again.
fn is_server_of(pid: i32, data: &Path) -> bool {
    // Empty for a process that has ended and waits for its parent.
    let Ok(command_line) = fs::read(format!("/proc/{pid}/cmdline")) else { return false };
    let arguments: Vec<&OsStr> =
        command_line.split(|&byte| byte == 0).map(OsStr::from_bytes).collect();
    let Some(program) = arguments.first().and_then(|path| Path::new(path).file_name()) else {
        return false;
    };
    let names_it = arguments.windows(2).any(|pair| pair == [OsStr::new("-D"), data.as_os_str()]);
    let is_in_it = fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == data);
    (program == "postgres" || program == "postmaster") && (names_it || is_in_it)
}

async fn is_gone_within(grace: Duration, pid: i32, data: &Path) -> bool {
    let started = Instant::now();
    while is_server_of(pid, data) {
        if started.elapsed() > grace {
            return false;
        }
        sleep(POLL).await;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_that_is_no_server_of_the_cluster_is_left_alone() {
        let data = tempfile::tempdir().unwrap();
        let mut bystander = tokio::process::Command::new("sleep").arg("60").spawn().unwrap();
        let lock = data.path().join("postmaster.pid");
        fs::write(&lock, format!("{}\n{}\n", bystander.id().unwrap(), data.path().display()))
            .unwrap();

        stop(data.path()).await.unwrap();

        assert!(bystander.try_wait().unwrap().is_none(), "the bystander was ended");
        assert!(!lock.exists(), "the lock would keep PostgreSQL from starting");
        bystander.kill().await.unwrap();
    }

    #[tokio::test]
    async fn a_lock_that_a_power_cut_left_empty_is_removed() {
        let data = tempfile::tempdir().unwrap();
        let lock = data.path().join("postmaster.pid");
        fs::write(&lock, "").unwrap();

        stop(data.path()).await.unwrap();

        assert!(!lock.exists());
    }
}
