//! How busy a candidate is for its weight.

use std::cmp::Ordering;

use super::Candidate;

/// Requests per weight, as a fraction.
#[derive(Clone, Copy)]
pub(super) struct Load {
    requests: u64,
    weight: u64,
}

impl Load {
    /// The load as it is: all idle servers are equal, whatever their weights.
    pub(super) fn now<C: Candidate>(candidate: &C) -> Self {
        Self {
            requests: u64::from(candidate.in_flight()),
            weight: u64::from(candidate.weight()),
        }
    }

    /// The load with the request that is to be placed: of two idle servers, the heavier one comes first.
    pub(super) fn with_one_more<C: Candidate>(candidate: &C) -> Self {
        let now = Self::now(candidate);
        Self {
            requests: now.requests + 1,
            ..now
        }
    }

    /// By cross multiplication: the product of a number up to 2³² and one below it fits.
    pub(super) fn compare(self, other: Self) -> Ordering {
        (self.requests * other.weight).cmp(&(other.requests * self.weight))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Sample;
    use super::*;

    #[test]
    fn loads_are_compared_by_weight() {
        let (light, heavy) = (Sample::new(0, 1, 1), Sample::new(1, 3, 3));
        assert_eq!(
            Load::now(&light).compare(Load::now(&heavy)),
            Ordering::Equal
        );
        let one_more = Load::with_one_more(&light).compare(Load::with_one_more(&heavy));
        assert_eq!(one_more, Ordering::Greater, "2/1 is more than 4/3");
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        let full = Sample::new(0, u32::MAX, u32::MAX);
        let almost = Sample::new(1, u32::MAX, u32::MAX - 1);
        let compared = Load::with_one_more(&full).compare(Load::with_one_more(&almost));
        assert_eq!(compared, Ordering::Greater);
    }
}
