//! Bodies as phones write them, no two of them equal.

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// Bytes of the smallest body: the mark and the line that tells it from all others.
pub const BODY_BYTES_MIN: usize = 100;
const BYTE_ORDER_MARK: [u8; 2] = [0xff, 0xfe];
const NAMES: [&str; 8] =
    ["Adeline", "Bořivoj", "Chiyoko", "Dmitri", "Éloïse", "Ferenc", "Gwendolyn", "Håkon"];

/// Makes bodies.
#[derive(Debug)]
pub struct Bodies {
    random: StdRng,
    made: u64,
}

impl Bodies {
    /// The same bodies for the same seed.
    pub fn new(seed: u64) -> Self {
        Self { random: StdRng::seed_from_u64(seed), made: 0 }
    }

    /// Another body of 100 B to `bytes_max`.
    pub fn any(&mut self, bytes_max: usize) -> Vec<u8> {
        let bytes = self.random.random_range(BODY_BYTES_MIN..=bytes_max.max(BODY_BYTES_MIN));
        self.next(bytes)
    }

    /// Another body of so many bytes, or one less: a character has two.
    pub fn next(&mut self, bytes: usize) -> Vec<u8> {
        self.made = self.made.wrapping_add(1);
        let mut text = format!("CLNAME001={:016x}.{}\r\n", self.random.random::<u64>(), self.made);
        let characters = bytes.saturating_sub(BYTE_ORDER_MARK.len()) / 2;
        let mut made = text.len();
        for contact in 1_u32.. {
            if made >= characters {
                break;
            }
            let name = NAMES[self.random.random_range(0..NAMES.len())];
            let number = self.random.random_range(1000..10_000_000);
            let entry = format!("ABKNAME{contact:03}={name}\r\nABKNUMBER{contact:03}={number}\r\n");
            made = made.saturating_add(entry.chars().count());
            text.push_str(&entry);
        }
        encode(text.chars().take(characters))
    }
}

/// UTF-16LE with a byte order mark.
pub fn encode(text: impl IntoIterator<Item = char>) -> Vec<u8> {
    let mut body = BYTE_ORDER_MARK.to_vec();
    let mut units = [0; 2];
    for character in text {
        body.extend(character.encode_utf16(&mut units).iter().flat_map(|unit| unit.to_le_bytes()));
    }
    body
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn bodies_have_the_size_asked_for_and_no_two_are_equal() {
        let mut bodies = Bodies::new(7);
        let sizes = [100, 101, 4096, 20_000];
        let made: Vec<Vec<u8>> = sizes.iter().cycle().take(400).map(|n| bodies.next(*n)).collect();
        assert!(made.iter().zip(sizes.iter().cycle()).all(|(body, n)| body.len() == n & !1));
        assert_eq!(made.iter().collect::<BTreeSet<_>>().len(), 400);
        assert_eq!(Bodies::new(7).next(100), made[0]);
    }
}
