//! The daemon as an operator runs it: started, checked, stopped, killed.

#[cfg(test)]
mod kit;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::path::Path;
    use std::process::{Command, Output};
    use std::time::{Duration, Instant};

    use nix::sys::signal::Signal;

    use crate::kit::{Brurid, command, lives, open_directory, postmaster, send};

    /// Runs a statement with the command line that `brurid` printed.
    fn psql(line: &str, statement: &str) -> String {
        let (_, psql) = line.split_once("database: ").unwrap();
        let script = format!("{psql} -qtAc \"{statement}\"");
        let output = Command::new("sh").arg("-c").arg(script).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn check(data_dir: &Path, variables: &[(&str, &str)]) -> Output {
        command(data_dir).arg("check").envs(variables.iter().copied()).output().unwrap()
    }

    fn text(output: &Output) -> String {
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    #[test]
    fn sigterm_stops_it_and_its_postgres_in_order() {
        let root = open_directory();
        let mut brurid = Brurid::start(root.path(), &[]);
        brurid.serves();
        let postgres = postmaster(root.path());
        let began = Instant::now();

        brurid.signal(Signal::SIGTERM);

        assert_eq!(brurid.ended().code(), Some(0));
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        assert!(!lives(postgres));
    }

    #[test]
    fn metrics_liveness_and_readiness_are_served() {
        let root = open_directory();
        let mut brurid = Brurid::start(root.path(), &[]);
        let line = brurid.says("serving metrics");
        let address = line.rsplit_once("address=").unwrap().1.trim().to_owned();
        brurid.serves();
        let ask = |path: &str| {
            let mut stream = TcpStream::connect(&address).unwrap();
            write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        };
        assert!(ask("/metrics").contains("target_info{service_name=\"brurid\""));
        assert!(ask("/livez").contains(" 200 "));
        assert!(ask("/readyz").contains(" 200 "));
    }

    #[test]
    fn a_second_brurid_on_the_same_data_directory_is_refused() {
        let root = open_directory();
        let mut first = Brurid::start(root.path(), &[]);
        first.serves();

        let mut second = Brurid::start(root.path(), &[]);

        second.says("is in use by another brurid (process ");
        assert_eq!(second.ended().code(), Some(1));
        assert!(text(&check(root.path(), &[])).contains("a brurid runs there (process "));
    }

    #[test]
    fn after_a_kill_the_next_start_stops_the_postgres_left_behind_and_has_every_row() {
        let root = open_directory();
        let mut brurid = Brurid::start(root.path(), &[]);
        let line = brurid.serves();
        psql(&line, "create table kept (n int); insert into kept values (7)");
        let orphan = postmaster(root.path());
        brurid.signal(Signal::SIGKILL);
        brurid.ended();
        assert!(lives(orphan), "there would be nothing to stop");

        let mut brurid = Brurid::start(root.path(), &[]);
        let line = brurid.serves();

        assert!(!lives(orphan));
        assert_ne!(postmaster(root.path()), orphan);
        assert_eq!(psql(&line, "select n from kept"), "7");
    }

    #[test]
    fn when_its_postgres_is_killed_it_ends_with_an_error_and_the_next_start_recovers() {
        let root = open_directory();
        let mut brurid = Brurid::start(root.path(), &[]);
        let line = brurid.serves();
        psql(&line, "create table kept (n int); insert into kept values (7)");

        send(Signal::SIGKILL, postmaster(root.path()));

        brurid.says("stopping: postgres ended early: it was ended by signal 9");
        assert_eq!(brurid.ended().code(), Some(1));
        let mut brurid = Brurid::start(root.path(), &[]);
        let line = brurid.serves();
        assert_eq!(psql(&line, "select n from kept"), "7");
    }

    #[test]
    fn a_stop_while_the_database_is_being_made_ends_it_and_the_next_start_works() {
        let root = open_directory();
        let mut brurid = Brurid::start(root.path(), &[]);
        brurid.says("starting");
        brurid.signal(Signal::SIGINT);
        assert_eq!(brurid.ended().code(), Some(0));

        Brurid::start(root.path(), &[]).serves();
    }

    #[test]
    fn a_postgres_that_does_not_stop_is_ended_by_force_in_time() {
        let root = open_directory();
        let mut brurid = Brurid::start(root.path(), &[]);
        brurid.serves();
        let postgres = postmaster(root.path());
        send(Signal::SIGSTOP, postgres);
        let began = Instant::now();

        brurid.signal(Signal::SIGTERM);

        assert_eq!(brurid.ended().code(), Some(0));
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        assert!(!lives(postgres));
    }

    #[test]
    fn a_second_signal_ends_it_at_once() {
        let root = open_directory();
        let mut brurid = Brurid::start(root.path(), &[]);
        brurid.serves();
        let postgres = postmaster(root.path());
        // So that the stop lasts.
        send(Signal::SIGSTOP, postgres);

        brurid.signal(Signal::SIGINT);
        brurid.says("stopping: SIGINT");
        brurid.signal(Signal::SIGINT);

        brurid.says("ending at once");
        assert_eq!(brurid.ended().code(), Some(1));
        send(Signal::SIGKILL, postgres);
    }

    #[test]
    fn sighup_reads_the_log_level_again() {
        let root = open_directory();
        let file = root.path().join("brurid.toml");
        fs::write(&file, "[telemetry]\nlog = \"info\"\n").unwrap();
        let mut brurid = Brurid::start_with(root.path(), &file);
        brurid.serves();

        fs::write(&file, "[telemetry]\nlog = \"info,bruri=debug\"\n").unwrap();
        brurid.signal(Signal::SIGHUP);
        brurid.says("configuration reloaded");

        fs::write(&file, "[telemetry]\nlog = \"loud\"\n").unwrap();
        brurid.signal(Signal::SIGHUP);
        brurid.says("configuration not reloaded: telemetry.log = \"loud\"");
    }

    #[test]
    fn a_port_in_use_is_named_with_what_to_do() {
        let root = open_directory();
        let holder = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = holder.local_addr().unwrap().to_string();
        let variables = [("BRURI_TELEMETRY__METRICS", address.as_str())];
        let expected =
            format!("another process uses {address}; see `ss -ltnp`, or set telemetry.metrics");

        let mut brurid = Brurid::start(root.path(), &variables);
        brurid.says(&expected);
        assert_eq!(brurid.ended().code(), Some(1));

        let found = check(root.path(), &variables);
        assert_eq!(found.status.code(), Some(1));
        assert!(text(&found).contains(&expected), "{}", text(&found));
    }

    #[test]
    fn check_finds_nothing_wrong_with_the_defaults_and_changes_nothing() {
        let root = open_directory();
        let data_dir = root.path().join("data");
        let found = check(&data_dir, &[]);
        assert_eq!(found.status.code(), Some(0), "{}", text(&found));
        for part in ["site.name: london", "private PostgreSQL 1", "made at the first start"] {
            assert!(text(&found).contains(part), "{}", text(&found));
        }
        assert!(!data_dir.exists());
    }

    #[test]
    fn check_names_what_is_wrong() {
        let root = open_directory();
        for (variable, value, part) in [
            ("BRURI_SITE__NAME", "London", "site.name = \"London\" in environment variable"),
            ("BRURI_REPLICATION__PEERS", "tokyo.example:7440", "there are no certificates"),
            ("BRURI_DATABASE__URL", "postgres://u:hunter2@127.0.0.1:1/d", "127.0.0.1 port 1: "),
            ("BRURI_SITE__DATA_DIR", "/etc/passwd/bruri", "/etc/passwd is no directory"),
        ] {
            let found = check(root.path(), &[(variable, value)]);
            let found_text = text(&found);
            assert_eq!(found.status.code(), Some(1), "{found_text}");
            let problem = found_text.lines().find(|line| line.starts_with("PROBLEM")).unwrap();
            assert!(problem.contains(part), "{found_text}");
            assert!(!found_text.contains("hunter2"), "{found_text}");
        }
    }

    #[test]
    fn check_finds_certificates_that_are_there_but_will_not_do() {
        let root = open_directory();
        let pki = root.path().join("pki");
        fs::create_dir(&pki).unwrap();
        for file in ["ca.crt", "site.crt", "site.key", "deployment.key"] {
            fs::write(pki.join(file), "not what it should be\n").unwrap();
        }
        let found = check(root.path(), &[]);
        let found_text = text(&found);
        assert_eq!(found.status.code(), Some(1), "{found_text}");
        assert!(found_text.contains("PROBLEM  replication.tls: read the certificates: "));
    }

    #[test]
    fn lines_for_programs_are_json() {
        let root = open_directory();
        let mut brurid = Brurid::start(root.path(), &[("BRURI_TELEMETRY__FORMAT", "json")]);
        let line = brurid.says("starting");
        assert!(line.starts_with('{') && line.contains("\"site.name\":\"london\""), "{line}");
    }
}
