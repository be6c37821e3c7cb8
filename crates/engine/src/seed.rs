/// A small generator of numbers that depend on the seed alone (SplitMix64).
///
/// Written out here so that a seed found in a log means the same run in every later version of the project;
/// it is for choosing what to try, never for secrets.
#[derive(Clone, Debug)]
pub(crate) struct SeededNumbers(u64);

impl SeededNumbers {
    pub(crate) fn new(seed: u64) -> SeededNumbers {
        SeededNumbers(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which must not be zero. (The bias of the remainder does not matter here.)
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        assert!(bound > 0, "a choice has at least one outcome");
        (self.next() % bound as u64) as usize
    }

    /// True `per_mille` times in a thousand.
    pub(crate) fn chance(&mut self, per_mille: u16) -> bool {
        self.below(1000) < usize::from(per_mille)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_numbers_every_time() {
        let mut numbers = SeededNumbers::new(7);
        let first: Vec<usize> = (0..5).map(|_| numbers.below(1000)).collect();
        let mut numbers = SeededNumbers::new(7);
        assert_eq!(first, (0..5).map(|_| numbers.below(1000)).collect::<Vec<_>>());
    }

    #[test]
    fn a_chance_comes_about_as_often_as_it_says() {
        let mut numbers = SeededNumbers::new(1);
        let hits = (0..10_000).filter(|_| numbers.chance(250)).count();
        assert!((2_300..2_700).contains(&hits), "{hits} of 10000 at 250 per mille");
    }
}
