//! Bodies as they are kept: compressed by us, since a phone's file is UTF-16 text that zstd makes much
//! smaller than the database would (decision 2).

use std::{cell::RefCell, io};

use bruri_domain::{Sha256, limits::FILE_BYTES_MAX};
use bytes::Bytes;
use zstd::bulk::{Compressor, Decompressor};

use crate::{StoreError, columns::Row};

/// More costs time and saves little on bodies of a few kilobytes.
const LEVEL: i32 = 3;

/// A body ready to be written.
#[derive(Clone, Debug)]
pub(crate) struct Packed {
    /// Bytes of the body.
    pub(crate) bytes: i32,
    /// A zstd frame with a checksum.
    pub(crate) frame: Bytes,
}

/// Compresses a body.
pub(crate) fn pack(content: &[u8]) -> Result<Packed, StoreError> {
    let frame = with(&COMPRESSOR, new_compressor, |compressor| compressor.compress(content));
    Ok(Packed {
        bytes: i32::try_from(content.len()).unwrap_or(i32::MAX),
        frame: frame.map_err(StoreError::Compression)?.into(),
    })
}

thread_local! {
    // Making one takes longer than compressing a small body with it.
    static COMPRESSOR: Slot<Compressor<'static>> = const { RefCell::new(None) };
    static DECOMPRESSOR: Slot<Decompressor<'static>> = const { RefCell::new(None) };
}

type Slot<T> = RefCell<Option<T>>;

/// Works with this thread's tool, making it at first use.
fn with<T, R>(
    slot: &'static std::thread::LocalKey<Slot<T>>,
    make: fn() -> io::Result<T>,
    work: impl FnOnce(&mut T) -> io::Result<R>,
) -> io::Result<R> {
    slot.with_borrow_mut(|tool| {
        let tool = match tool {
            Some(tool) => tool,
            None => tool.insert(make()?),
        };
        work(tool)
    })
}

fn new_compressor() -> io::Result<Compressor<'static>> {
    let mut compressor = Compressor::new(LEVEL)?;
    compressor.include_checksum(true)?;
    Ok(compressor)
}

/// Gives a body back, if it is what its hash says.
pub(crate) fn unpack(sha256: Sha256, bytes: u64, frame: &[u8]) -> Result<Bytes, StoreError> {
    let row = Row { table: "body", key: &sha256 };
    let capacity = usize::try_from(bytes).ok().filter(|bytes| *bytes <= FILE_BYTES_MAX);
    let capacity = capacity.ok_or_else(|| row.corrupt("bytes"))?;
    let unpacked = with(&DECOMPRESSOR, Decompressor::new, |tool| tool.decompress(frame, capacity));
    let content = unpacked.map_err(|_| row.corrupt("content"))?;
    if content.len() != capacity || Sha256::of(&content) != sha256 {
        return Err(row.corrupt("content"));
    }
    Ok(content.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_comes_back_byte_for_byte() {
        let largest = vec![0; FILE_BYTES_MAX];
        for content in [&b""[..], b"a", &largest, &b"ABKNAME001=x\r\n".repeat(500)] {
            let packed = pack(content).unwrap();
            let bytes = content.len() as u64;
            assert_eq!(unpack(Sha256::of(content), bytes, &packed.frame).unwrap(), content);
        }
    }

    #[test]
    fn a_flipped_bit_or_a_wrong_length_is_found() {
        let content = b"ABKNAME001=Ines Vogel\r\nABKNUMBER001=200\r\n".repeat(20);
        let sha256 = Sha256::of(&content);
        let frame = pack(&content).unwrap().frame;
        let whole = content.len() as u64;
        for place in 0..frame.len() {
            let mut damaged = frame.to_vec();
            damaged[place] ^= 1;
            let read = unpack(sha256, whole, &damaged);
            // A bit of the header that no decoder reads may flip; what comes back is right even so.
            assert!(read.is_err() || read.unwrap() == content, "byte {place}");
        }
        assert!(unpack(sha256, whole - 1, &frame).is_err());
        assert!(unpack(sha256, whole + 1, &frame).is_err());
        assert!(unpack(sha256, u64::MAX, &frame).is_err());
    }

    #[test]
    fn a_whole_frame_of_other_bytes_is_found() {
        let frame = pack(b"ABKNUMBER001=201\r\n").unwrap().frame;
        let sha256 = Sha256::of(b"ABKNUMBER001=200\r\n");
        assert!(unpack(sha256, 18, &frame).is_err());
    }
}
