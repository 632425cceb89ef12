//! What must be equal on both nodes, area by area, as heartbeats carry it.
//!
//! One hash says that the configurations differ; a hash for each area of them says where. What an area is
//! called is the caller's to know. A later release may know more areas, or none was sent by an older one:
//! what both know is compared.

/// Areas that a heartbeat has room for.
pub const MAX_AREAS: usize = 8;

/// A hash for each area that a node knows, by its number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct AreaHashes {
    known: u8,
    hashes: [u32; MAX_AREAS],
}

/// Some of the areas.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Areas(u8);

impl AreaHashes {
    /// By number; `None` if there are more than [`MAX_AREAS`].
    #[must_use]
    pub fn new(hashes: &[u32]) -> Option<Self> {
        let mut all = [0; MAX_AREAS];
        all.get_mut(..hashes.len())?.copy_from_slice(hashes);
        Some(Self { known: hashes.len() as u8, hashes: all })
    }

    /// By number.
    #[must_use]
    pub fn as_slice(&self) -> &[u32] {
        self.hashes.get(..usize::from(self.known)).unwrap_or_default()
    }

    /// The areas that both know and that differ.
    #[must_use]
    pub fn differing(&self, other: &Self) -> Areas {
        let pairs = self.as_slice().iter().zip(other.as_slice()).enumerate();
        Areas(pairs.filter(|(_, (ours, theirs))| ours != theirs).fold(0, |set, (at, _)| set | 1 << at))
    }
}

impl Areas {
    /// These, by number; numbers that no area can have are left out.
    #[must_use]
    pub fn of(numbers: &[u8]) -> Self {
        let bits = numbers.iter().filter(|number| usize::from(**number) < MAX_AREAS);
        Self(bits.fold(0, |set, number| set | 1 << number))
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether an area is among them.
    #[must_use]
    pub fn contains(self, number: u8) -> bool {
        usize::from(number) < MAX_AREAS && self.0 & 1 << number != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hashes(hashes: &[u32]) -> AreaHashes {
        AreaHashes::new(hashes).unwrap()
    }

    #[test]
    fn x_13_areas_that_differ_are_found_by_number() {
        let ours = hashes(&[1, 2, 3]);
        assert!(ours.differing(&ours).is_empty());
        let both = ours.differing(&hashes(&[9, 2, 9]));
        assert_eq!(both, Areas::of(&[0, 2]));
        assert!(both.contains(0) && !both.contains(1) && !both.contains(3) && !both.contains(200));
        assert_eq!(AreaHashes::new(&[0; MAX_AREAS + 1]), None);
    }

    #[test]
    fn x_18_what_only_one_release_knows_is_not_compared() {
        let newer = hashes(&[1, 2, 3, 4]);
        assert!(hashes(&[1, 2, 3]).differing(&newer).is_empty());
        assert!(newer.differing(&AreaHashes::default()).is_empty());
        assert_eq!(newer.differing(&hashes(&[1, 7])), Areas::of(&[1]));
    }
}
