//! Who asks: on a Unix socket the kernel tells the user at the other end.

use std::io::Read as _;

use bruri_domain::limits::{OPERATOR_BYTES_MAX, USERS_BYTES_MAX};
use tonic::{Request, Status, transport::server::UdsConnectInfo};

/// The machine's users, one a line: name, password, number and more, with colons between.
const USERS_FILE: &str = "/etc/passwd";

/// The name under which the history keeps who asked: `uid 1000 (alice)`, or `uid 1000` where the machine
/// does not list that user.
pub(crate) async fn operator<T>(request: &Request<T>) -> Result<String, Status> {
    let connection = request.extensions().get::<UdsConnectInfo>();
    let uid = connection
        .and_then(|connection| connection.peer_cred)
        .map(|credentials| credentials.uid())
        .ok_or_else(|| Status::unauthenticated("the kernel does not tell who asks"))?;
    let users = tokio::task::spawn_blocking(users).await.unwrap_or_default();
    Ok(name_of(uid, &users))
}

fn users() -> String {
    let mut text = Vec::new();
    // Without the list there is still the number.
    let _ = std::fs::File::open(USERS_FILE)
        .and_then(|file| file.take(USERS_BYTES_MAX).read_to_end(&mut text));
    String::from_utf8_lossy(&text).into_owned()
}

fn name_of(uid: u32, users: &str) -> String {
    let found = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, _password, number) = (fields.next()?, fields.next()?, fields.next()?);
        (number.parse() == Ok(uid)).then_some(name)
    });
    let name: String = found.unwrap_or_default().chars().filter(|c| !c.is_control()).collect();
    let told = format!("uid {uid} ({name})");
    if name.is_empty() || told.len() > OPERATOR_BYTES_MAX { format!("uid {uid}") } else { told }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operator_is_named_by_number_and_by_name_where_there_is_one() {
        let users = "root:x:0:0:root:/root:/bin/bash\nalice:x:1000:1000::/home/alice:/bin/sh\nbad";
        assert_eq!(name_of(0, users), "uid 0 (root)");
        assert_eq!(name_of(1000, users), "uid 1000 (alice)");
        assert_eq!(name_of(1001, users), "uid 1001");
        assert_eq!(name_of(1000, ""), "uid 1000");
    }

    #[test]
    fn a_name_that_would_not_fit_a_record_is_left_out() {
        let long = format!("{}:x:7:7::/:/bin/sh", "a".repeat(OPERATOR_BYTES_MAX));
        assert_eq!(name_of(7, &long), "uid 7");
        assert_eq!(name_of(7, "a\u{1b}[2Jb:x:7:7"), "uid 7 (a[2Jb)");
    }
}
