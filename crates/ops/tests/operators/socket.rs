//! Who may connect, and who may take the path.

use std::os::unix::fs::PermissionsExt as _;

use bruri_ops::{OpsError, Socket};

#[tokio::test]
async fn only_the_owner_may_connect() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ops.sock");
    let socket = Socket::bind(&path).await.unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_eq!((socket.path(), mode), (path.as_path(), 0o600));
    let files = std::fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(files, 1, "nothing else is left behind");
}

#[tokio::test]
async fn a_socket_of_a_process_that_is_gone_is_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ops.sock");
    // Std leaves the file when it closes the socket, as a process does that is killed.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let socket = Socket::bind(&path).await.unwrap();
    tokio::net::UnixStream::connect(&path).await.unwrap();
    drop(socket);
    assert!(!path.exists());
}

#[tokio::test]
async fn a_socket_that_somebody_serves_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ops.sock");
    let first = Socket::bind(&path).await.unwrap();
    let refused = Socket::bind(&path).await.unwrap_err();
    assert!(matches!(refused, OpsError::InUse { .. }), "{refused:?}");
    let told = format!(
        "another process serves the operators' socket {}; stop that one, or set ops.socket",
        path.display()
    );
    assert_eq!(refused.to_string(), told);
    tokio::net::UnixStream::connect(first.path()).await.unwrap();
}

#[tokio::test]
async fn a_file_that_is_no_socket_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ops.sock");
    std::fs::write(&path, "letters").unwrap();
    let refused = Socket::bind(&path).await.unwrap_err();
    assert!(matches!(refused, OpsError::NotASocket { .. }), "{refused:?}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "letters");
}

#[tokio::test]
async fn a_path_longer_than_the_kernel_allows_is_refused_by_name() {
    let path = tempfile::tempdir().unwrap().path().join("a".repeat(100)).join("ops.sock");
    let refused = Socket::bind(&path).await.unwrap_err();
    assert!(matches!(refused, OpsError::PathTooLong { .. }), "{refused:?}");
}

#[tokio::test]
async fn a_socket_that_took_the_place_of_ours_is_not_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ops.sock");
    let ours = Socket::bind(&path).await.unwrap();
    std::fs::remove_file(&path).unwrap();
    let later = Socket::bind(&path).await.unwrap();
    drop(ours);
    tokio::net::UnixStream::connect(later.path()).await.unwrap();
}
