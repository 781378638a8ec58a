use crate::interceptors::TraceId;

/// The last bits of a trace id, which are random and decide alone (OpenTelemetry, TraceIdRatioBased).
const RANDOM_BITS: u32 = 56;

/// A share of all traces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ratio {
    /// Traces with a smaller random part are not sampled.
    threshold: u64,
}

impl Ratio {
    pub(super) const ALL: Self = Self { threshold: 0 };

    /// `None` if the share is not from 0 to 1.
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
        // The bits before the random part do not count.
        let id = (u128::from(u64::MAX) << 64) | (0xff << RANDOM_BITS) | u128::from(random);
        Ratio::new(share).unwrap().contains(TraceId(NonZeroU128::new(id).unwrap()))
    }

    #[test]
    fn sample_ratio_compares_the_random_bits() {
        let last = (1 << RANDOM_BITS) - 1;
        assert!(contains(1.0, 0) && contains(1.0, last));
        assert!(!contains(0.0, 0) && !contains(0.0, last));
        assert!(!contains(0.25, last / 4 * 3) && contains(0.25, last / 4 * 3 + 4));
        assert_eq!(Ratio::new(1.0), Some(Ratio::ALL));
    }

    #[test]
    fn sample_ratio_is_from_0_to_1() {
        for wrong in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            assert_eq!(Ratio::new(wrong), None, "{wrong}");
        }
    }
}
