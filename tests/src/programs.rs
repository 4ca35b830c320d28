//! The programs under test, as cargo built them.

use std::env;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context as _, ensure};
use tokio::process::Command;

/// A command that runs `brurid` or `bruri`, with none of the settings of whoever runs the test.
pub fn command(name: &str) -> anyhow::Result<Command> {
    let mut command = Command::new(find(name)?);
    for (variable, _) in env::vars_os() {
        if variable.to_string_lossy().starts_with("BRURI_") {
            command.env_remove(variable);
        }
    }
    command.stdin(Stdio::null()).kill_on_drop(true);
    Ok(command)
}

/// Runs a command to its end; returns what it wrote, or fails with what it complained of.
pub async fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().await.context("run a program")?;
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}: {out}{complaint}", output.status);
    Ok(out)
}

/// Runs `bruri` with these arguments to its end; returns what it wrote.
pub async fn bruri<I, S>(arguments: I) -> anyhow::Result<String>
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    output(command("bruri")?.args(arguments)).await
}

/// In `BRURI_E2E_PROGRAMS`, else beside this program, which is in the same target directory or in the
/// folder of its tests.
fn find(name: &str) -> anyhow::Result<PathBuf> {
    if let Some(folder) = env::var_os("BRURI_E2E_PROGRAMS") {
        return Ok(PathBuf::from(folder).join(name));
    }
    let own = env::current_exe().context("find this program")?;
    let found = own.ancestors().skip(1).take(2).map(|folder| folder.join(name));
    found
        .into_iter()
        .find(|path| path.is_file())
        .with_context(|| format!("there is no {name}: run `cargo build --workspace` first"))
}
