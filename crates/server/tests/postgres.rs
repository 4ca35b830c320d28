//! The private Postgres with real processes: made, started, stopped, killed, recovered.

#[cfg(test)]
#[expect(dead_code, reason = "each test binary uses its part of the kit")]
mod kit;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
    use std::path::Path;
    use std::time::{Duration, Instant};

    use bruri_server::data_dir::DataDir;
    use bruri_server::postgres::{Postgres, PostgresError};
    use nix::sys::signal::Signal;
    use sqlx::{ConnectOptions as _, PgConnection};
    use tokio::time::timeout;

    use crate::kit::{PATIENCE, lives, open_directory, postmaster, send};

    async fn start(data_dir: &Path) -> (DataDir, Postgres) {
        let data_dir = DataDir::open(data_dir).unwrap();
        let postgres = Postgres::start(&data_dir).await.unwrap();
        (data_dir, postgres)
    }

    async fn write_row(postgres: &Postgres) -> PgConnection {
        let mut connection = postgres.options().connect().await.unwrap();
        let text = "create table if not exists kept (n int); insert into kept values (1)";
        sqlx::raw_sql(text).execute(&mut connection).await.unwrap();
        connection
    }

    async fn ask(postgres: &Postgres, question: &'static str) -> String {
        let mut connection = postgres.options().connect().await.unwrap();
        sqlx::query_scalar(question).fetch_one(&mut connection).await.unwrap()
    }

    async fn rows(postgres: &Postgres) -> String {
        ask(postgres, "select count(*)::text from kept").await
    }

    fn is_root() -> bool {
        nix::unistd::geteuid().is_root()
    }

    #[tokio::test]
    async fn what_was_written_is_there_after_a_stop_and_the_next_start_is_quick() {
        let root = open_directory();
        let (data_dir, postgres) = start(root.path()).await;
        write_row(&postgres).await;
        let process = postmaster(root.path());
        postgres.stop().await;
        assert!(!lives(process));

        let began = Instant::now();
        let postgres = Postgres::start(&data_dir).await.unwrap();
        let took = began.elapsed();
        eprintln!("a later start took {took:?}");

        assert_eq!(rows(&postgres).await, "1");
        // Alone it takes a seventh of a second; tests beside it take the processors.
        assert!(took < Duration::from_secs(3), "{took:?}");
        postgres.stop().await;
    }

    #[tokio::test]
    async fn a_2xx_would_be_durable_and_nobody_reaches_the_server_but_through_the_socket() {
        let root = open_directory();
        let (data_dir, postgres) = start(root.path()).await;
        let mut connection = postgres.options().connect().await.unwrap();
        for undo in ["alter system set fsync = off", "alter system set listen_addresses = '*'"] {
            sqlx::raw_sql(undo).execute(&mut connection).await.unwrap();
        }
        drop(connection);
        postgres.stop().await;

        let postgres = Postgres::start(&data_dir).await.unwrap();
        for (question, answer) in [
            ("show fsync", "on"),
            ("show synchronous_commit", "on"),
            ("show full_page_writes", "on"),
            ("show data_checksums", "on"),
            ("show listen_addresses", ""),
            ("show wal_compression", "lz4"),
            ("show default_toast_compression", "lz4"),
            ("show server_encoding", "UTF8"),
            ("show lc_collate", "C"),
            ("show jit", "off"),
            ("select count(*)::text from pg_hba_file_rules where auth_method = 'trust'", "0"),
        ] {
            assert_eq!(ask(&postgres, question).await, answer, "{question}");
        }
        let mode = |path: &str| fs::metadata(root.path().join(path)).unwrap().mode() & 0o777;
        assert_eq!(mode("postgres/pgpass"), 0o600);
        assert_eq!(mode("postgres/run"), 0o700);
        assert_eq!(mode("postgres/data"), 0o700);
        postgres.stop().await;
    }

    #[tokio::test]
    async fn the_printed_command_line_opens_the_database() {
        let root = open_directory();
        let (_data_dir, postgres) = start(root.path()).await;
        let line = format!("{} -tAc 'select current_database()'", postgres.psql());
        let output = tokio::process::Command::new("sh").arg("-c").arg(line).output().await.unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "bruri\n", "{output:?}");
        postgres.stop().await;
    }

    #[tokio::test]
    async fn a_server_that_was_killed_is_noticed_and_recovers_with_every_row() {
        let root = open_directory();
        let (data_dir, mut postgres) = start(root.path()).await;
        // Its process outlives the server's for a moment, and keeps a new one from starting.
        let busy = write_row(&postgres).await;
        send(Signal::SIGKILL, postmaster(root.path()));

        let how = timeout(PATIENCE, postgres.died()).await.unwrap();
        assert!(how.contains("ended by signal 9"), "{how}");
        drop(postgres);

        let postgres = Postgres::start(&data_dir).await.unwrap();
        assert_eq!(rows(&postgres).await, "1");
        drop(busy);
        postgres.stop().await;
    }

    #[tokio::test]
    async fn a_dropped_server_stops_and_the_next_start_waits_for_it() {
        let root = open_directory();
        let (data_dir, postgres) = start(root.path()).await;
        write_row(&postgres).await;
        let first = postmaster(root.path());
        drop(postgres);

        let postgres = Postgres::start(&data_dir).await.unwrap();

        assert_ne!(postmaster(root.path()), first);
        assert_eq!(rows(&postgres).await, "1");
        postgres.stop().await;
    }

    #[tokio::test]
    async fn an_interrupted_initdb_is_cleaned_up() {
        let root = open_directory();
        let draft = root.path().join("postgres/data.new-12345");
        fs::create_dir_all(draft.join("base")).unwrap();
        fs::write(draft.join("PG_VERSION"), "15\n").unwrap();
        fs::write(root.path().join("postgres/data.new-password"), "half").unwrap();
        fs::write(root.path().join("postgres/pgpass"), "").unwrap();

        let (_data_dir, postgres) = start(root.path()).await;

        assert_eq!(ask(&postgres, "select 'works'").await, "works");
        let left: Vec<String> = fs::read_dir(root.path().join("postgres"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.starts_with("data.new"))
            .collect();
        assert_eq!(left, Vec::<String>::new());
        postgres.stop().await;
    }

    #[tokio::test]
    async fn as_root_the_server_runs_as_another_user() {
        let root = open_directory();
        let (_data_dir, postgres) = start(root.path()).await;
        let process = postmaster(root.path());
        let uid = fs::metadata(format!("/proc/{process}")).unwrap().uid();
        let owner = fs::metadata(root.path().join("postgres/data")).unwrap().uid();
        assert_eq!(uid, owner);
        if is_root() {
            assert_ne!(uid, 0);
        } else {
            assert_eq!(uid, nix::unistd::geteuid().as_raw());
        }
        postgres.stop().await;
    }

    #[tokio::test]
    async fn as_root_a_cluster_restored_as_root_is_given_to_that_user() {
        if !is_root() {
            return;
        }
        let root = open_directory();
        let (data_dir, postgres) = start(root.path()).await;
        write_row(&postgres).await;
        postgres.stop().await;
        for path in ["", "PG_VERSION", "base", "global", "global/pg_control"] {
            chown(root.path().join("postgres/data").join(path), Some(0), Some(0)).unwrap();
        }

        let postgres = Postgres::start(&data_dir).await.unwrap();

        assert_eq!(rows(&postgres).await, "1");
        postgres.stop().await;
    }

    #[tokio::test]
    async fn as_root_a_directory_closed_to_that_user_is_named() {
        if !is_root() {
            return;
        }
        let root = open_directory();
        let closed = root.path().join("closed");
        fs::create_dir(&closed).unwrap();
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
        let data_dir = DataDir::open(&closed.join("data")).unwrap();

        let refusal = Postgres::start(&data_dir).await.err().unwrap();

        assert!(matches!(refusal, PostgresError::Closed { .. }), "{refusal}");
        assert!(refusal.to_string().contains(&format!("chmod o+x {}", closed.display())));
    }

    #[tokio::test]
    async fn without_its_password_the_cluster_is_left_as_it_is() {
        let root = open_directory();
        let (data_dir, postgres) = start(root.path()).await;
        postgres.stop().await;
        let password = root.path().join("postgres/pgpass");
        let kept = fs::read(&password).unwrap();
        fs::remove_file(&password).unwrap();

        let refusal = Postgres::start(&data_dir).await.err().unwrap();
        assert!(matches!(refusal, PostgresError::NoPassword { .. }), "{refusal}");

        fs::write(&password, kept).unwrap();
        fs::set_permissions(&password, fs::Permissions::from_mode(0o600)).unwrap();
        Postgres::start(&data_dir).await.unwrap().stop().await;
    }
}
