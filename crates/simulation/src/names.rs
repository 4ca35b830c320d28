//! Names of what is simulated.

use std::net::IpAddr;

use bruri_domain::{FileId, FileName, Phone, PhoneKey, RealmId, SiteName};

/// Site number so.
pub fn site(number: usize) -> SiteName {
    // Letters, digits and a length within bounds.
    SiteName::parse(&format!("s{number}")).expect("a site's name")
}

/// The number of a site.
pub(crate) fn number(site: &SiteName) -> Option<usize> {
    site.as_str().strip_prefix('s')?.parse().ok()
}

/// The file of user number so: the first two are of one extension, the third of none.
pub fn file(number: usize) -> FileId {
    let name = match number {
        1 => "100_96xxdata.txt".to_owned(),
        2 => "9610data.txt".to_owned(),
        _ => format!("{}_16xxdata.txt", 100 + number),
    };
    FileId { realm: RealmId::built_in(), name: FileName::parse(&name).expect("a file's name") }
}

/// Phone number so.
pub fn phone(number: usize) -> PhoneKey {
    let last = u8::try_from(number % 250).unwrap_or(0);
    PhoneKey::from(&Phone::new(IpAddr::from([192, 0, 2, last]), b""))
}
