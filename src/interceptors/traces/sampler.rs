use crate::interceptors::TraceId;

/// The end of a trace id that is random, and all that decides (OpenTelemetry, TraceIdRatioBased).
const RANDOM_BITS: u32 = 56;

/// A share of all traces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ratio {
    /// Traces whose random part is less are not in it.
    threshold: u64,
}

impl Ratio {
    pub(super) const ALL: Self = Self { threshold: 0 };

    /// `None` if it is not from 0 to 1.
    pub(super) fn new(share: f64) -> Option<Self> {
        let left_out = ((1.0 - share) * (1_u64 << RANDOM_BITS) as f64).round();
        (0.0..=1.0).contains(&share).then_some(Self { threshold: left_out as u64 })
    }

    pub(super) fn contains(self, trace: TraceId) -> bool {
        let random = trace.0.get() as u64 & ((1 << RANDOM_BITS) - 1);
        random >= self.threshold
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU128;

    use super::*;

    fn contains(share: f64, random: u64) -> bool {
        // What stands before the random part has no say.
        let id = (u128::from(u64::MAX) << 64) | (0xff << RANDOM_BITS) | u128::from(random);
        Ratio::new(share).unwrap().contains(TraceId(NonZeroU128::new(id).unwrap()))
    }

    #[test]
    fn a_share_is_of_the_random_part_from_its_end() {
        let last = (1 << RANDOM_BITS) - 1;
        assert!(contains(1.0, 0) && contains(1.0, last));
        assert!(!contains(0.0, 0) && !contains(0.0, last));
        assert!(!contains(0.25, last / 4 * 3) && contains(0.25, last / 4 * 3 + 4));
        assert_eq!(Ratio::new(1.0), Some(Ratio::ALL));
    }

    #[test]
    fn a_share_is_from_0_to_1() {
        for wrong in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            assert_eq!(Ratio::new(wrong), None, "{wrong}");
        }
    }
}
