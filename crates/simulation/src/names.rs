//! Names of what is simulated.

use std::net::IpAddr;

use bruri_domain::{FileId, FileName, Phone, PhoneKey, RealmId, SiteName};

/// Site number so.
pub fn site(number: usize) -> SiteName {
    // Letters, digits and a length within bounds.
    SiteName::parse(&format!("s{number}")).expect("a site's name")
}

/// The file of user number so.
pub fn file(number: usize) -> FileId {
    let name = format!("{}_16xxdata.txt", 100 + number);
    FileId { realm: RealmId::built_in(), name: FileName::parse(&name).expect("a file's name") }
}

/// Phone number so.
pub fn phone(number: usize) -> PhoneKey {
    let last = u8::try_from(number % 250).unwrap_or(0);
    PhoneKey::from(&Phone::new(IpAddr::from([192, 0, 2, last]), b""))
}
