//! The command line.

use clap::{Parser, Subcommand};
use clap_complete::Shell;

use crate::{
    commands::{
        conflict::ConflictCommand, erase::EraseArgs, history::HistoryCommand, phone::PhoneCommand,
        pki::PkiCommand, realm::RealmCommand, site::SiteCommand,
    },
    connect::SiteAddress,
};

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  refused, or not found
  2  wrong usage
  3  the site or server cannot be reached, or cannot answer now";

/// The operators' command of bruri: it keeps the backups of Avaya desk phones, at every branch.
#[derive(Debug, Parser)]
#[command(name = "bruri", version, after_help = EXIT_CODES)]
pub(crate) struct Args {
    /// The site to ask, by the socket of its brurid: unix:PATH, or a path [default: the first there is
    /// of /var/lib/brurid/ops.sock and ~/.local/state/brurid/ops.sock]
    // Named otherwise than in commands that are about the site they name.
    #[arg(
        id = "address",
        long = "site",
        global = true,
        env = "BRURI_SITE",
        value_name = "unix:PATH"
    )]
    pub(crate) address: Option<SiteAddress>,
    /// Print JSON, for programs
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Look at backups, and put older ones back
    #[command(subcommand)]
    History(HistoryCommand),
    /// Look at conflicts, and choose what phones get
    #[command(subcommand)]
    Conflict(ConflictCommand),
    /// Erase all that is known of an extension, at every site, for good
    Erase(EraseArgs),
    /// Look at what a realm wants, and change it
    #[command(subcommand)]
    Realm(RealmCommand),
    /// Look at a site and its links
    #[command(subcommand)]
    Site(SiteCommand),
    /// Behave like a phone
    #[command(subcommand)]
    Phone(PhoneCommand),
    /// Make and look at the certificates with which sites know each other
    #[command(subcommand)]
    Pki(PkiCommand),
    /// Print the completion script of a shell
    Completion {
        /// The shell
        shell: Shell,
    },
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::CommandFactory as _;

    use super::*;

    fn parse(line: &str) -> Result<Args, clap::Error> {
        Args::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_definition_holds_together() {
        Args::command().debug_assert();
    }

    #[test]
    fn site_and_json_may_stand_anywhere() {
        for line in [
            "bruri --site unix:/run/ops.sock --json site status",
            "bruri site status --json --site /run/ops.sock",
        ] {
            let args = parse(line).unwrap();
            assert!(args.json, "{line}");
            let socket = args.address.unwrap();
            assert_eq!(socket.path(), Path::new("/run/ops.sock"), "{line}");
        }
    }

    #[test]
    fn a_site_that_is_no_path_is_wrong_usage() {
        for address in ["https://london:7441", "unix:", "tcp://x", ""] {
            let error = parse(&format!("bruri site status --site {address}")).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{address}");
            assert!(error.to_string().contains("expected unix:PATH, or a path"), "{error}");
        }
    }

    #[test]
    fn an_erasure_names_whom_or_what_else_to_do() {
        for line in [
            "bruri erase 299",
            "bruri erase 299 --realm guests --yes",
            "bruri erase lift 299",
            "bruri erase status",
            "bruri erase status 299 --realm guests",
        ] {
            assert!(parse(line).is_ok(), "{line}: {:?}", parse(line));
        }
        for line in ["bruri erase", "bruri erase lift", "bruri erase 299 status"] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn versions_is_another_name_of_list() {
        for line in
            ["bruri history list 299_16xxdata.txt", "bruri history versions guests/9610data.txt"]
        {
            let Command::History(HistoryCommand::List { file, .. }) = parse(line).unwrap().command
            else {
                panic!("{line}");
            };
            assert!(line.ends_with(&file.to_string()));
        }
    }

    #[test]
    fn a_limit_is_at_least_one_and_bounded() {
        for (limit, fits) in [("1", true), ("1000000", true), ("0", false), ("1000001", false)] {
            let parsed = parse(&format!("bruri history files --limit {limit}"));
            assert_eq!(parsed.is_ok(), fits, "{limit}");
        }
    }

    #[test]
    fn the_exit_codes_are_in_the_help() {
        let help = parse("bruri --help").unwrap_err().to_string();
        assert!(help.contains("3  the site or server cannot be reached"), "{help}");
    }
}
