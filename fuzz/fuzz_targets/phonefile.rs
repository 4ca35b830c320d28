//! Whatever the bytes are: no panic, and what is accepted comes back byte for byte.
#![no_main]

use bruri_phonefile::{PhoneFile, Undecodable, differ_in_call_log_only, is_suspect};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    let suspect = is_suspect(body);
    match PhoneFile::decode(body) {
        Ok(file) => {
            assert_eq!(file.encode(), body);
            let bytes: usize = file.lines().map(|l| l.text.len() + l.end.as_str().len()).sum();
            let joined: String = file.lines().flat_map(|l| [l.text, l.end.as_str()]).collect();
            assert_eq!(joined.len(), bytes);
            assert!(differ_in_call_log_only(body, body));
            assert!(!suspect || file.items().next().is_none());
        }
        Err(Undecodable::Cut { at }) => assert!(suspect && at < body.len()),
        Err(Undecodable::NoCharacter { at }) => {
            assert!(at < body.len() && PhoneFile::decode(&body[..at]).is_ok());
        }
    }
});
