//! Finding the site, exit codes, and what programs rely on besides.

use std::process::Stdio;

use serde_json::json;

use crate::memory::{Site, bruri, text};

#[tokio::test]
async fn a_site_tells_its_status() {
    let site = Site::with_files(1204);
    assert_eq!(
        site.works(&["site", "status"]).await,
        "\
site     london
release  0.1.0
started  2023-11-14T22:13:20Z
files    1,204

LOG  KIND  OPEN  SEQUENCE  CHAIN  CONTINUES

no peers: this site does not replicate
"
    );
    let expected = json!({
        "site": "london", "deployment": null, "release": "0.1.0",
        "started_at": "2023-11-14T22:13:20.000000Z", "files": 1204, "database_bytes": null,
        "logs": [], "peers": [],
    });
    assert_eq!(site.json(&["site", "status"]).await, expected);
}

#[tokio::test]
async fn a_site_is_found_by_argument_by_environment_and_in_the_home_directory() {
    let site = Site::with_files(0);
    let (socket, home) = (site.socket(), site.dir.path().join("home"));
    let by_argument = ["unix:", "unix://", ""].map(|form| format!("{form}{}", socket.display()));
    for address in by_argument {
        let output = bruri().args(["site", "status", "--site", &address]).output().await.unwrap();
        assert_eq!(output.status.code(), Some(0), "{address}: {}", text(&output.stderr));
    }
    let state = home.join(".local/state/brurid");
    std::fs::create_dir_all(&state).unwrap();
    std::os::unix::fs::symlink(&socket, state.join("ops.sock")).unwrap();
    if !std::path::Path::new("/var/lib/brurid").exists() {
        let output = bruri().env("HOME", home).args(["site", "status"]).output().await.unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    }
}

#[tokio::test]
async fn exit_codes_tell_refusals_from_wrong_usage_from_a_site_out_of_reach() {
    let site = Site::with_files(1);
    let dead = site.dir.path().join("dead.sock");
    drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
    let dead = dead.to_str().unwrap().to_owned();
    for (args, code, told) in [
        (
            vec!["history", "list", "7_16xxdata.txt"],
            1,
            "bruri: nothing is known of file default/7_16xxdata.txt\n".to_owned(),
        ),
        (vec!["--json", "pki", "show", "."], 2, "bruri: this command prints no JSON\n".to_owned()),
        (
            vec!["history", "list", "9999_16xxdata.txt"],
            3,
            "bruri: the database did not answer; try again\n".to_owned(),
        ),
        (
            vec!["site", "status", "--site", "/nowhere/ops.sock"],
            3,
            "bruri: there is no socket at /nowhere/ops.sock: is brurid running?\n".to_owned(),
        ),
        (
            vec!["site", "status", "--site", &dead],
            3,
            format!("bruri: the brurid that made {dead} has ended: start it again\n"),
        ),
    ] {
        let output = site.bruri(&args).await;
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(code), told), "{args:?}");
        assert!(output.stdout.is_empty());
    }
    assert_eq!(site.bruri(&["history", "list"]).await.status.code(), Some(2));
}

#[tokio::test]
async fn a_reader_that_has_read_enough_is_no_failure() {
    let site = Site::with_files(1000);
    let mut command = bruri();
    command.env("BRURI_SITE", site.socket()).args(["history", "files"]);
    let mut running = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(running.stdout.take());
    let output = running.wait_with_output().await.unwrap();
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
}

#[tokio::test]
async fn shells_get_a_completion_script() {
    for (shell, part) in
        [("bash", "complete -F _bruri"), ("zsh", "#compdef bruri"), ("fish", "restore")]
    {
        let output = bruri().args(["completion", shell]).output().await.unwrap();
        assert!(text(&output.stdout).contains(part), "{shell}");
    }
}
