//! When the daemon stops: on a signal, or when a part of it dies; in order, and within bounds.

use std::borrow::Cow;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinError;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The name of a task, for log lines.
pub type Name = Cow<'static, str>;

/// The named tasks of the daemon, and the token that asks them to stop.
///
/// A task that ends before it was asked to is a fault: it stops all the others.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
    running: Arc<Mutex<Vec<Name>>>,
    early_end: Arc<OnceLock<EarlyEnd>>,
}

/// A part of the daemon ended though nobody asked it to.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{name} ended early: {how}")]
pub struct EarlyEnd {
    /// Which part.
    pub name: Name,
    /// What is known of the reason.
    pub how: String,
}

impl Tasks {
    /// No tasks yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancelled when all are to stop; cancel it to have them stop.
    pub fn stop(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Runs a task until it ends, which it does when [`Tasks::stop`] is cancelled.
    pub fn spawn<F>(&self, name: impl Into<Name>, task: F)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let name = name.into();
        self.names().push(name.clone());
        let work = self.tracker.spawn(task);
        let tasks = self.clone();
        self.tracker.spawn(async move {
            let outcome = work.await;
            tasks.note_end(name, outcome);
        });
    }

    /// Waits for the tasks to end after the stop; names those that do not.
    async fn finish(&self, grace: Duration) {
        self.tracker.close();
        if timeout(grace, self.tracker.wait()).await.is_err() {
            let names = self.names().join(", ");
            tracing::warn!(grace_s = grace.as_secs_f32(), tasks = names, "tasks are cut off");
        }
    }

    fn note_end(&self, name: Name, outcome: Result<anyhow::Result<()>, JoinError>) {
        let mut names = self.names();
        if let Some(place) = names.iter().position(|running| *running == name) {
            names.swap_remove(place);
        }
        drop(names);
        let failure = match outcome {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(format!("{error:#}")),
            Err(error) => Some(describe(error)),
        };
        match failure {
            how if !self.stop.is_cancelled() => {
                let how = how.unwrap_or_else(|| "it returned".to_owned());
                self.stop_early(EarlyEnd { name, how });
            }
            Some(how) => tracing::warn!(task = %name, reason = how, "task failed while stopping"),
            None => {}
        }
    }

    fn stop_early(&self, end: EarlyEnd) {
        tracing::error!("stopping: {end}");
        // The first to end is the cause; others follow from it.
        let _ = self.early_end.set(end);
        self.stop.cancel();
    }

    fn names(&self) -> MutexGuard<'_, Vec<Name>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs until a stop is asked for, a task ends early, or `died` tells of the end of another part;
/// then lets the tasks finish. An error, which is logged already, means that nobody had asked for
/// the stop.
pub async fn run_until<N, F>(tasks: &Tasks, died: (N, F), grace: Duration) -> Result<(), EarlyEnd>
where
    N: Into<Name>,
    F: Future<Output = String>,
{
    let (name, died) = died;
    tokio::select! {
        () = tasks.stop.cancelled() => {}
        how = died => tasks.stop_early(EarlyEnd { name: name.into(), how }),
    }
    tasks.finish(grace).await;
    tasks.early_end.get().cloned().map_or(Ok(()), Err)
}

/// From now on SIGTERM and SIGINT cancel `stop`, a second one ends the process at once, and SIGHUP
/// calls `on_hangup`. Must be called within a runtime.
pub fn watch_signals(
    stop: CancellationToken,
    mut on_hangup: impl FnMut() + Send + 'static,
) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    // Not one of the tasks: it watches until the very end, and nobody waits for it.
    TaskTracker::new().spawn(async move {
        loop {
            let name = tokio::select! {
                Some(()) = terminate.recv() => "SIGTERM",
                Some(()) = interrupt.recv() => "SIGINT",
                Some(()) = hangup.recv() => {
                    on_hangup();
                    continue;
                }
                else => return,
            };
            if stop.is_cancelled() {
                tracing::warn!("ending at once: a second signal came ({name})");
                std::process::exit(1);
            }
            tracing::info!("stopping: {name}");
            stop.cancel();
        }
    });
    Ok(())
}

fn describe(error: JoinError) -> String {
    if !error.is_panic() {
        return error.to_string();
    }
    let panic = error.into_panic();
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    format!("it panicked: {}", text.unwrap_or("no reason given"))
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    const GRACE: Duration = Duration::from_millis(100);

    fn nothing_dies() -> (&'static str, impl Future<Output = String>) {
        ("nothing", pending())
    }

    #[tokio::test]
    async fn a_stop_that_was_asked_for_is_no_error() {
        let tasks = Tasks::new();
        let stop = tasks.stop();
        tasks.spawn("loop", async move {
            stop.cancelled().await;
            anyhow::bail!("failures after the stop are only logged")
        });
        tasks.stop().cancel();
        assert_eq!(run_until(&tasks, nothing_dies(), GRACE).await, Ok(()));
    }

    #[tokio::test]
    async fn a_task_that_fails_stops_the_others_and_is_named() {
        let tasks = Tasks::new();
        let stop = tasks.stop();
        tasks.spawn("loop", async move {
            stop.cancelled().await;
            Ok(())
        });
        tasks.spawn("consumer tokyo", async { Err(anyhow::anyhow!("inner").context("outer")) });
        let end = run_until(&tasks, nothing_dies(), GRACE).await.unwrap_err();
        assert_eq!(end.to_string(), "consumer tokyo ended early: outer: inner");
    }

    #[tokio::test]
    async fn a_task_that_only_returns_has_ended_early_too() {
        let tasks = Tasks::new();
        tasks.spawn("loop", async { Ok(()) });
        let end = run_until(&tasks, nothing_dies(), GRACE).await.unwrap_err();
        assert_eq!(end.to_string(), "loop ended early: it returned");
    }

    #[tokio::test]
    async fn a_task_that_panics_is_named_with_its_reason() {
        let tasks = Tasks::new();
        tasks.spawn("loop", async { panic!("seven is not even") });
        let end = run_until(&tasks, nothing_dies(), GRACE).await.unwrap_err();
        assert_eq!(end.to_string(), "loop ended early: it panicked: seven is not even");
    }

    #[tokio::test]
    async fn the_death_of_another_part_stops_the_tasks() {
        let tasks = Tasks::new();
        let stop = tasks.stop();
        let died = ("postgres", async { "killed".to_owned() });
        let end = run_until(&tasks, died, GRACE).await.unwrap_err();
        assert_eq!(end.to_string(), "postgres ended early: killed");
        assert!(stop.is_cancelled());
    }

    #[tokio::test]
    async fn a_task_that_does_not_stop_is_cut_off() {
        let tasks = Tasks::new();
        tasks.spawn("deaf", pending());
        tasks.stop().cancel();
        let stopped = run_until(&tasks, nothing_dies(), GRACE);
        assert_eq!(timeout(Duration::from_secs(5), stopped).await, Ok(Ok(())));
    }
}
