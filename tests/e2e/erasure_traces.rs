//! An extension that six real sites know, erased at one: its number and its contacts are nowhere any more, neither
//! where that was heard at once nor where it was heard late.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::ensure;
use bruri_tests::body::encode;
use bruri_tests::link::Link;
use bruri_tests::{Book, Deployment, Phone, Site, Traces, agree, eventually, level};
use serde_json::Value;
use tokio::time::Instant;

use crate::turn;

const SITES: [&str; 6] = ["london", "tokyo", "paris", "lima", "oslo", "cairo"];
/// The site that is off while it is erased.
const LATE: usize = 5;
const EXTENSION: &str = "49305550173";
/// Files that the first five sites know, and one that only the late one does.
const KNOWN: [&str; 3] =
    ["49305550173_16xxdata.txt", "49305550173_1616data.txt", "49305550173_9608data.txt"];
const LATE_FILE: &str = "49305550173_96xxdata.txt";
const OTHER: &str = "49305550174_16xxdata.txt";
/// Contacts that are in no other file: names and numbers.
const CONTACTS: [(&str, &str); 2] =
    [("Božidara Quxová", "0042077755501"), ("Hyacinth Ōmorí", "0081355501934")];
const LATE_CONTACT: (&str, &str) = ("Wenceslas Čuřík", "0020255501776");
/// Until every site that is there has said that it has erased.
const RECEIPTS: Duration = Duration::from_secs(2);
/// How long a site may take to hear of what it missed, on a busy machine.
const HEARD: Duration = Duration::from_secs(30);

fn file_with((name, number): (&str, &str)) -> String {
    format!("ABKNAME001={name}\r\nABKNUMBER001={number}\r\nLANGUAGE=English\r\n")
}

fn traces_of(contacts: &[(&str, &str)]) -> Traces {
    let texts = contacts.iter().flat_map(|(name, number)| [*name, *number]);
    texts.fold(Traces::default().and(EXTENSION), Traces::and)
}

/// Fails unless number and contacts are found, and each way of writing finds something: the search is no blind one.
async fn are_found_at(traces: &Traces, site: &Site, contacts: &[(&str, &str)]) {
    let found = traces.found_at(site).await.unwrap();
    let holds = |what: &str| found.iter().any(|trace| trace.contains(what));
    let texts = contacts.iter().flat_map(|(name, number)| [*name, *number]);
    for text in texts.chain([EXTENSION]) {
        assert!(holds(text), "{} does not hold {text}: {found:?}", site.name());
    }
    for written in ["UTF-8", "UTF-16LE", "small hexadecimal"] {
        assert!(holds(written), "nothing at {} is in {written}: {found:?}", site.name());
    }
}

async fn back_up(site: &Site, file: &str, body: &[u8]) {
    Phone::new(site.phones()).back_up(file, body, &Book::default()).await.unwrap();
}

/// The sites whose receipts a site knows, with the versions that each has erased.
async fn receipts_at(site: &Site) -> anyhow::Result<Vec<(String, u64)>> {
    let told = site.bruri(&["--json", "erase", "status", EXTENSION]).await?;
    let told: Value = serde_json::from_str(&told)?;
    let receipts = told["erasures"][0]["receipts"].as_array().cloned().unwrap_or_default();
    let read = |receipt: &Value| {
        Some((receipt["site"].as_str()?.to_owned(), receipt["versions"].as_u64()?))
    };
    Ok(receipts.iter().filter_map(read).collect())
}

async fn receipts_are_at(site: &Site, of: &[&str]) -> anyhow::Result<()> {
    let given = receipts_at(site).await?;
    let (given, of): (BTreeSet<&str>, BTreeSet<&str>) =
        (given.iter().map(|(site, _)| site.as_str()).collect(), of.iter().copied().collect());
    ensure!(given == of, "{} knows the receipts of {given:?}", site.name());
    Ok(())
}

/// All know the extension; the late one, which none of the others has met, knows a file that they do not, and is off.
async fn six_sites() -> Deployment {
    let mut deployment = Deployment::make_linked(&SITES).await.unwrap();
    let to_late = |deployment: &Deployment, change: fn(&Link)| {
        (0..LATE).flat_map(|other| deployment.links(LATE, other)).for_each(change);
    };
    to_late(&deployment, Link::cut);
    deployment.start_apart().await.unwrap();
    let body = encode(file_with(LATE_CONTACT).chars());
    back_up(&deployment.sites[LATE], LATE_FILE, &body).await;
    let traces = traces_of(&[LATE_CONTACT]);
    are_found_at(&traces, &deployment.sites[LATE], &[LATE_CONTACT]).await;
    deployment.sites[LATE].stop().await.unwrap();
    to_late(&deployment, Link::heal);
    deployment
}

/// At three sites; one file twice, one in UTF-8.
async fn back_up_at(sites: &[Site]) {
    let [first, second] = CONTACTS.map(file_with);
    back_up(&sites[0], KNOWN[0], &encode(first.chars())).await;
    back_up(&sites[0], KNOWN[0], &encode(second.chars())).await;
    back_up(&sites[1], KNOWN[1], &encode(format!("{first}REDIAL=1\r\n").chars())).await;
    back_up(&sites[2], KNOWN[2], second.as_bytes()).await;
    back_up(&sites[3], OTHER, &encode("ABKNAME001=Alma\r\n".chars())).await;
    level(sites).await.unwrap();
}

/// It is erased at one site, and all that are there have said that they have done so.
async fn erase_at(sites: &[Site]) {
    let began = Instant::now();
    sites[0].bruri(&["erase", EXTENSION, "--yes"]).await.unwrap();
    for site in sites {
        let left = RECEIPTS.saturating_sub(began.elapsed());
        let all = async || receipts_are_at(site, &SITES[..LATE]).await;
        eventually(left, "every receipt is there", all).await.unwrap();
    }
    bruri_tests::tell(&format!("five sites had all five receipts after {:?}", began.elapsed()));
}

async fn is_nowhere(sites: &[Site]) {
    for site in sites {
        let mut phone = Phone::new(site.phones());
        for file in KNOWN.iter().chain([&LATE_FILE]) {
            assert_eq!(phone.restore(file).await.unwrap(), None, "{file} at {}", site.name());
        }
        assert!(phone.restore(OTHER).await.unwrap().is_some());
        traces_of(&CONTACTS).are_gone_from(site).await.unwrap();
        traces_of(&[LATE_CONTACT]).are_gone_from(site).await.unwrap();
    }
}

/// Law 7.
#[tokio::test(flavor = "multi_thread")]
async fn of_an_erased_extension_number_and_contacts_are_at_no_site_nor_does_one_that_was_off_bring_any_back()
 {
    // The time until the receipts is measured.
    let _turn = turn::alone().await;
    let mut deployment = six_sites().await;
    let there = &deployment.sites[..LATE];
    back_up_at(there).await;
    for site in there {
        are_found_at(&traces_of(&CONTACTS), site, &CONTACTS).await;
    }

    erase_at(there).await;
    is_nowhere(there).await;

    deployment.sites[LATE].start().await.unwrap();
    for site in &deployment.sites {
        let all = async || receipts_are_at(site, &SITES).await;
        eventually(HEARD, "the late site has given its receipt", all).await.unwrap();
    }
    level(&deployment.sites).await.unwrap();
    is_nowhere(&deployment.sites).await;
    agree(&deployment.sites).await.unwrap();
    let counted: Vec<u64> =
        receipts_at(&deployment.sites[0]).await.unwrap().into_iter().map(|(_, n)| n).collect();
    // In the order of sites: Cairo has erased its own one, the others their four.
    assert_eq!(counted, [1, 4, 4, 4, 4, 4]);
}
