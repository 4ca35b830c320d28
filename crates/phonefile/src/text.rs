//! A body as text, and back.

use crate::lines::{Item, Lines};

/// U+FEFF as UTF-16LE: a file without these first two bytes is refused by a 9610 (9600 Administrator Guide
/// R1.5, 9610 pages), and demanded of every file that is made by hand (16-601443 issue 5 p. 109).
const UTF_16_MARK: [u8; 2] = [0xff, 0xfe];
/// U+FEFF as UTF-8.
const UTF_8_MARK: [u8; 3] = [0xef, 0xbb, 0xbf];

/// How a file's characters are bytes.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Encoding {
    /// UTF-16LE after its byte order mark: what phones write.
    Utf16,
    /// UTF-8 after its byte order mark.
    Utf8Marked,
    /// UTF-8 as it is.
    Utf8,
}

impl Encoding {
    /// Tells by the first bytes, and returns the others.
    pub(crate) fn of(body: &[u8]) -> (Self, &[u8]) {
        if let Some(rest) = body.strip_prefix(&UTF_16_MARK) {
            (Self::Utf16, rest)
        } else if let Some(rest) = body.strip_prefix(&UTF_8_MARK) {
            (Self::Utf8Marked, rest)
        } else {
            (Self::Utf8, body)
        }
    }

    /// It begins with a byte order mark.
    pub(crate) fn is_marked(self) -> bool {
        self != Self::Utf8
    }
}

/// Why a body is no text. It tells places and never content: a body is a person's data.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Undecodable {
    /// It ends before its last character does.
    #[error("the file is cut off within its last character, after {at} bytes")]
    Cut {
        /// Bytes up to that character.
        at: usize,
    },
    /// Bytes that are no character.
    #[error(
        "the file is neither UTF-16LE nor UTF-8: byte {at} and those after it are no character"
    )]
    NoCharacter {
        /// Bytes before them.
        at: usize,
    },
}

/// A phone's file as text.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PhoneFile {
    encoding: Encoding,
    text: String,
}

impl PhoneFile {
    /// Reads a body.
    ///
    /// # Errors
    /// [`Undecodable`] where it is neither UTF-16LE after its byte order mark nor UTF-8.
    pub fn decode(body: &[u8]) -> Result<Self, Undecodable> {
        let (encoding, rest) = Encoding::of(body);
        let text = match encoding {
            Encoding::Utf16 => utf_16(rest),
            Encoding::Utf8Marked | Encoding::Utf8 => utf_8(rest),
        };
        let before = body.len().saturating_sub(rest.len());
        Ok(Self { encoding, text: text.map_err(|error| error.after(before))? })
    }

    /// The bytes: exactly those it was decoded from.
    pub fn encode(&self) -> Vec<u8> {
        match self.encoding {
            Encoding::Utf16 => {
                let units = self.text.encode_utf16().flat_map(u16::to_le_bytes);
                UTF_16_MARK.into_iter().chain(units).collect()
            }
            Encoding::Utf8Marked => [&UTF_8_MARK, self.text.as_bytes()].concat(),
            Encoding::Utf8 => self.text.as_bytes().to_vec(),
        }
    }

    /// How it is encoded.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Its lines, in order; none of an empty text.
    pub fn lines(&self) -> Lines<'_> {
        Lines::of(&self.text)
    }

    /// Its items, in order. Of two with the same name in any case, phones take the last.
    pub fn items(&self) -> impl Iterator<Item = Item<'_>> {
        self.lines().filter_map(|line| line.item())
    }
}

impl Undecodable {
    fn after(self, before: usize) -> Self {
        match self {
            Self::Cut { at } => Self::Cut { at: at.saturating_add(before) },
            Self::NoCharacter { at } => Self::NoCharacter { at: at.saturating_add(before) },
        }
    }
}

fn utf_8(bytes: &[u8]) -> Result<String, Undecodable> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        if error.error_len().is_none() {
            Undecodable::Cut { at }
        } else {
            Undecodable::NoCharacter { at }
        }
    })?;
    Ok(text.to_owned())
}

fn utf_16(bytes: &[u8]) -> Result<String, Undecodable> {
    let (units, odd) = bytes.as_chunks::<2>();
    let mut text = String::with_capacity(bytes.len());
    let mut at = 0_usize;
    for unit in char::decode_utf16(units.iter().copied().map(u16::from_le_bytes)) {
        let character = unit.map_err(|error| {
            let left = bytes.len().saturating_sub(at);
            half_of_a_pair(error.unpaired_surrogate(), at, left)
        })?;
        text.push(character);
        at = at.saturating_add(character.len_utf16().saturating_mul(2));
    }
    if odd.is_empty() { Ok(text) } else { Err(Undecodable::Cut { at }) }
}

/// The first half as the last whole unit, with `left` bytes from it on, is a cut; any other is a mistake.
fn half_of_a_pair(unit: u16, at: usize, left: usize) -> Undecodable {
    if is_first_half(unit) && left < 4 {
        Undecodable::Cut { at }
    } else {
        Undecodable::NoCharacter { at }
    }
}

/// A high surrogate, which must be followed by a low one.
pub(crate) fn is_first_half(unit: u16) -> bool {
    (0xd800..0xdc00).contains(&unit)
}
