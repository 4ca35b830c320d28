//! How the private Postgres is set: what an operator may tune, and what holds the laws.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use super::PostgresError;
use super::plan::{Layout, Plan};

/// For a small office's machine; an operator overrides single ones by `alter system`.
const TUNING: &[(&str, &str)] = &[
    ("max_connections", "40"),
    ("shared_buffers", "256MB"),
    ("effective_cache_size", "1GB"),
    ("work_mem", "8MB"),
    ("maintenance_work_mem", "64MB"),
    ("wal_buffers", "16MB"),
    ("min_wal_size", "256MB"),
    ("max_wal_size", "2GB"),
    ("checkpoint_timeout", "15min"),
    ("checkpoint_completion_target", "0.9"),
    ("random_page_cost", "1.1"),
    ("autovacuum", "on"),
    // Queries here are short; compiling them would cost more than it saves.
    ("jit", "off"),
    // Nothing replicates this cluster but bruri itself, by its own logs.
    ("max_logical_replication_workers", "0"),
    ("log_checkpoints", "off"),
    ("timezone", "UTC"),
    ("log_timezone", "UTC"),
];

/// On the command line, so that neither a file nor `alter system` undoes them: a 2xx means durable
/// (law 1), no body reaches a log line (law 10), and nobody reaches the server but through the
/// socket.
const FIXED: &[(&str, &str)] = &[
    ("fsync", "on"),
    ("synchronous_commit", "on"),
    ("full_page_writes", "on"),
    ("listen_addresses", ""),
    ("port", "5432"),
    ("unix_socket_permissions", "0700"),
    ("logging_collector", "off"),
    ("log_destination", "stderr"),
    ("log_line_prefix", ""),
    ("log_min_messages", "warning"),
    ("log_error_verbosity", "terse"),
    ("log_min_error_statement", "panic"),
    ("log_statement", "none"),
    ("log_min_duration_statement", "-1"),
    ("log_parameter_max_length_on_error", "0"),
];

/// Writes the settings file of a server with or without lz4.
pub(super) fn write(plan: &Plan, lz4: bool) -> Result<(), PostgresError> {
    let file = plan.layout.settings_file();
    let draft = file.with_extension("conf.new");
    replace(&file, &draft, &text(plan.install.major(), lz4))
        .map_err(PostgresError::doing(format!("write {}", file.display())))
}

/// The arguments of `postgres` that run the cluster.
pub(super) fn arguments(layout: &Layout) -> Vec<String> {
    let mut arguments = base(layout);
    arguments.extend(FIXED.iter().flat_map(|(name, value)| set(name, value)));
    // Quoted as an entry of a list: a comma in the path separates nothing.
    let sockets = layout.sockets().display().to_string().replace('"', "\"\"");
    arguments.extend(set("unix_socket_directories", &format!("\"{sockets}\"")));
    arguments
}

/// The arguments of `postgres` that only ask whether it was built with lz4.
pub(super) fn ask_for_lz4(layout: &Layout) -> Vec<String> {
    let mut arguments = vec!["-D".to_owned(), layout.data().display().to_string()];
    arguments.extend(set("default_toast_compression", "lz4"));
    arguments.extend(["-C".to_owned(), "default_toast_compression".to_owned()]);
    arguments
}

fn base(layout: &Layout) -> Vec<String> {
    let mut arguments = vec!["-D".to_owned(), layout.data().display().to_string()];
    arguments.extend(set("config_file", &layout.settings_file().display().to_string()));
    arguments
}

fn set(name: &str, value: &str) -> [String; 2] {
    ["-c".to_owned(), format!("{name}={value}")]
}

fn text(major: u32, lz4: bool) -> String {
    let mut text = String::from(
        "# Written by brurid at each start: changes made here are lost.\n\
         # To change a setting: psql -c \"alter system set name = 'value'\", then restart brurid.\n",
    );
    let wal_compression = if lz4 && major >= 15 { "lz4" } else { "on" };
    let compression = [
        ("wal_compression", wal_compression),
        ("default_toast_compression", if lz4 { "lz4" } else { "pglz" }),
    ];
    for (name, value) in TUNING.iter().chain(&compression) {
        text.push_str(name);
        text.push_str(" = '");
        text.push_str(value);
        text.push_str("'\n");
    }
    text
}

fn replace(file: &Path, draft: &Path, text: &str) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let mut written = fs::File::create(draft)?;
    written.write_all(text.as_bytes())?;
    // The user that runs Postgres must read it, whatever the umask.
    written.set_permissions(fs::Permissions::from_mode(0o644))?;
    written.sync_all()?;
    fs::rename(draft, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lz4_is_used_where_the_server_has_it() {
        assert!(text(15, true).contains("wal_compression = 'lz4'\n"));
        assert!(text(15, true).contains("default_toast_compression = 'lz4'\n"));
        assert!(text(15, false).contains("wal_compression = 'on'\n"));
        assert!(text(15, false).contains("default_toast_compression = 'pglz'\n"));
        assert!(text(14, true).contains("wal_compression = 'on'\n"));
    }
}
