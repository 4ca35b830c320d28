//! Processes that are not our children: found, signalled, waited for.

use std::fs;
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Sends a signal.
pub fn signal(process: i32, signal: Signal) -> anyhow::Result<()> {
    kill(Pid::from_raw(process), signal).with_context(|| format!("send {signal} to {process}"))
}

/// Kills a process and its children at once, none of them warned.
pub fn kill_family(parent: i32) -> anyhow::Result<()> {
    let children = children(parent)?;
    signal(parent, Signal::SIGKILL)?;
    for child in children {
        // It may have ended meanwhile.
        let _ = signal(child, Signal::SIGKILL);
    }
    Ok(())
}

/// Whether a process runs; one that has ended and waits for its parent does not.
pub fn lives(process: i32) -> bool {
    fs::read(format!("/proc/{process}/cmdline")).is_ok_and(|line| !line.is_empty())
}

/// Waits until a process is gone; false where it stays longer than `limit`. Blocks, for use in `drop`.
pub fn gone_within(limit: Duration, process: i32) -> bool {
    let began = std::time::Instant::now();
    while lives(process) {
        if began.elapsed() > limit {
            return false;
        }
        // There is no event for the end of a process that is not our child.
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

fn children(parent: i32) -> anyhow::Result<Vec<i32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").context("read /proc")? {
        let name = entry.context("read /proc")?.file_name();
        let Ok(process) = name.to_string_lossy().parse::<i32>() else { continue };
        if parent_of(process) == Some(parent) {
            found.push(process);
        }
    }
    Ok(found)
}

fn parent_of(process: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name in parentheses may hold anything, even a parenthesis.
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(1)?.parse().ok()
}
