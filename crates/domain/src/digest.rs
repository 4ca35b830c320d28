//! What a site serves, summed up so that two sites can be compared with few bytes and the files found in which
//! they differ.
//!
//! A sum over files does not depend on their order, and one file that differs shows in its bucket. Equal sites
//! have equal digests; the other way round it holds against accidents, not against who makes up hashes: peers
//! are members of the deployment.

use crate::{FileId, Sha256, limits::DIGEST_BUCKETS};

/// Raised whenever what is hashed changes: only digests of one version can be compared.
pub const VERSION: u32 = 1;
/// Of a bucket as it goes over the wire: a count of 8 bytes and a sum of 16.
const BUCKET_BYTES: usize = 24;

/// The digest of all files of a site that hold anything.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Digest {
    /// One for each value of the first 16 bits of the hash of a file's key.
    buckets: Vec<Bucket>,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Bucket {
    count: u64,
    sum: u128,
}

impl Default for Digest {
    fn default() -> Self {
        Self { buckets: vec![Bucket::default(); DIGEST_BUCKETS] }
    }
}

impl Digest {
    /// The bucket of a file.
    pub fn bucket_of(file: &FileId) -> u16 {
        // Neither realm nor name can hold a NUL.
        let key = [file.realm.as_str().as_bytes(), b"\0", file.name.as_str().as_bytes()];
        let hash = Sha256::of_parts(key);
        u16::from_be_bytes([hash.0[0], hash.0[1]])
    }

    /// Adds a file by the hash of its key and state.
    pub fn add(&mut self, file: &FileId, hash: &Sha256) {
        if let Some(bucket) = self.buckets.get_mut(usize::from(Self::bucket_of(file))) {
            let (half, _) = hash.0.split_first_chunk().unwrap_or((&[0; 16], &[]));
            bucket.count = bucket.count.wrapping_add(1);
            bucket.sum = bucket.sum.wrapping_add(u128::from_be_bytes(*half));
        }
    }

    /// How many files are in it.
    pub fn files(&self) -> u64 {
        self.buckets.iter().fold(0, |sum, bucket| sum.saturating_add(bucket.count))
    }

    /// One hash over all of it.
    pub fn root(&self) -> Sha256 {
        Sha256::of(&self.to_bytes())
    }

    /// The buckets in which the two differ.
    pub fn differing(&self, other: &Self) -> Vec<u16> {
        let pairs = (0..=u16::MAX).zip(self.buckets.iter().zip(&other.buckets));
        pairs.filter(|(_, (mine, theirs))| mine != theirs).map(|(number, _)| number).collect()
    }

    /// All buckets as bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let bytes = |bucket: &Bucket| {
            bucket.count.to_be_bytes().into_iter().chain(bucket.sum.to_be_bytes())
        };
        self.buckets.iter().flat_map(bytes).collect()
    }

    /// Reads them; `None` for anything else.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != DIGEST_BUCKETS.checked_mul(BUCKET_BYTES)? {
            return None;
        }
        let bucket = |bytes: &[u8]| {
            let (count, sum) = bytes.split_first_chunk()?;
            let (count, sum) =
                (u64::from_be_bytes(*count), u128::from_be_bytes(sum.try_into().ok()?));
            Some(Bucket { count, sum })
        };
        let buckets = bytes.chunks(BUCKET_BYTES).map(bucket).collect::<Option<_>>()?;
        Some(Self { buckets })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{FileName, RealmId};

    fn file(extension: u32) -> FileId {
        let name = FileName::parse(&format!("{extension}_16xxdata.txt")).unwrap();
        FileId { realm: RealmId::built_in(), name }
    }

    fn digest(files: &[(u32, [u8; 32])]) -> Digest {
        let mut digest = Digest::default();
        for (extension, hash) in files {
            digest.add(&file(*extension), &Sha256(*hash));
        }
        digest
    }

    fn files() -> impl Strategy<Value = Vec<(u32, [u8; 32])>> {
        prop::collection::btree_map(1..5000_u32, any::<[u8; 32]>(), 1..40)
            .prop_map(|files| files.into_iter().collect())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn the_order_of_files_does_not_matter(files in files(), at in any::<prop::sample::Index>()) {
            let mut turned = files.clone();
            turned.rotate_left(at.index(files.len()));
            prop_assert_eq!(digest(&files).root(), digest(&turned).root());
        }

        #[test]
        fn one_bit_of_one_file_shows_in_its_bucket_alone(
            files in files(), at in any::<prop::sample::Index>(), bit in 0..128_usize,
        ) {
            let (at, mut other) = (at.index(files.len()), files.clone());
            other[at].1[bit / 8] ^= 1 << (bit % 8);
            let (one, other) = (digest(&files), digest(&other));
            prop_assert_eq!(one.differing(&other), vec![Digest::bucket_of(&file(files[at].0))]);
            prop_assert_ne!(one.root(), other.root());
        }

        #[test]
        fn a_file_that_is_missing_shows_also_where_its_hash_is_zero(mut files in files()) {
            files[0].1 = [0; 32];
            let (one, other) = (digest(&files), digest(&files[1..]));
            prop_assert_eq!(one.differing(&other), vec![Digest::bucket_of(&file(files[0].0))]);
            prop_assert_eq!((one.files(), other.files()), (files.len() as u64, files[1..].len() as u64));
        }

        #[test]
        fn it_comes_back_from_its_bytes_and_from_nothing_else(files in files()) {
            let one = digest(&files);
            prop_assert_eq!(Digest::from_bytes(&one.to_bytes()), Some(one.clone()));
            prop_assert_eq!(Digest::from_bytes(&one.to_bytes()[1..]), None);
        }
    }
}
