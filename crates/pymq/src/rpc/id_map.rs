//! Maps by identity, with a hash that costs a multiplication.
//!
//! Every call is looked up about ten times on its way. Identities are random where peers are honest;
//! two secret numbers keep others from choosing identities that meet in one place of a map.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};

use crate::name::Id;

pub(super) type IdMap<V> = HashMap<Id, V, IdHashing>;

/// Makes hashers with secrets of their own.
#[derive(Clone, Copy, Debug)]
pub(super) struct IdHashing(u64, u64);

impl Default for IdHashing {
    fn default() -> Self {
        let random = RandomState::new();
        Self(random.hash_one(0), random.hash_one(1))
    }
}

impl BuildHasher for IdHashing {
    type Hasher = IdHasher;

    fn build_hasher(&self) -> IdHasher {
        IdHasher { secrets: *self, hash: 0 }
    }
}

/// Hashes one identity.
pub(super) struct IdHasher {
    secrets: IdHashing,
    hash: u64,
}

impl Hasher for IdHasher {
    fn write_u128(&mut self, number: u128) {
        let IdHashing(first, second) = self.secrets;
        let (low, high) = (number as u64 ^ first, (number >> 64) as u64 ^ second);
        let product = u128::from(low ^ self.hash) * u128::from(high);
        self.hash = product as u64 ^ (product >> 64) as u64;
    }

    fn write(&mut self, bytes: &[u8]) {
        for sixteen in bytes.chunks(16) {
            let mut number = [0; 16];
            number[..sixteen.len()].copy_from_slice(sixteen);
            self.write_u128(u128::from_le_bytes(number));
        }
    }

    fn finish(&self) -> u64 {
        self.hash
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn identities_that_differ_little_lie_far_apart() {
        let hashing = IdHashing::default();
        let place = |number: u128| {
            let mut hasher = hashing.build_hasher();
            hasher.write_u128(number);
            hasher.finish() >> 44
        };
        let places: HashSet<u64> = (0..4096).map(place).collect();
        assert!(places.len() > 4000, "{} of 4096 have a place of their own", places.len());
    }

    #[test]
    fn no_two_maps_have_the_same_order() {
        let id = Id::random();
        assert_ne!(IdHashing::default().hash_one(id), IdHashing::default().hash_one(id));
    }
}
