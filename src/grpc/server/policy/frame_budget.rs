use tokio::time::Instant;

/// The budget of a connection for frames that cost more than they achieve. The unit is a cheap
/// frame, such as PRIORITY or WINDOW_UPDATE. h2 handles about a million of them a second. No honest
/// client sends this many at once.
pub(super) const BUDGET: u32 = 10_000;

/// The budget of a new connection. It is smaller, so that reconnecting does not help an attacker.
const BUDGET_AT_FIRST: u32 = 8_000;

/// The budget of a new connection from a network whose connections were closed for floods.
const BUDGET_OF_OFFENDERS: u32 = 500;

/// The cost of HEADERS: decoding, and a stream.
pub(super) const HEADERS_COST: u32 = 1;

/// The cost of HEADERS on a connection from such a network. It is used up before h2 and the router
/// have seen many calls. Each response earns more than this.
const HEADERS_COST_OF_OFFENDERS: u32 = 4;

/// Units that a connection earns per second. Responses earn more.
const REFILL_PER_SECOND: u32 = 1_000;

/// A token bucket for cheap frames.
pub(super) struct FrameBudget {
    left: u32,
    refilled: Instant,
    headers_cost: u32,
}

impl FrameBudget {
    pub(super) fn new(now: Instant, of_offender: bool) -> Self {
        let (left, headers_cost) = match of_offender {
            true => (BUDGET_OF_OFFENDERS, HEADERS_COST_OF_OFFENDERS),
            false => (BUDGET_AT_FIRST, HEADERS_COST),
        };
        Self { left, refilled: now, headers_cost }
    }

    pub(super) fn headers_cost(&self) -> u32 {
        self.headers_cost
    }

    pub(super) fn earn(&mut self, units: u32) {
        self.left = self.left.saturating_add(units).min(BUDGET);
    }

    /// Spends `cost`. Returns false if the budget is too small.
    pub(super) fn spend(&mut self, cost: u32) -> bool {
        if self.left < cost {
            let now = Instant::now();
            let time = now.duration_since(self.refilled).as_secs_f64();
            self.earn((time * f64::from(REFILL_PER_SECOND)) as u32);
            self.refilled = now;
        }
        match self.left.checked_sub(cost) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn frame_budget_refills_over_time_up_to_its_maximum() {
        let mut budget = FrameBudget::new(Instant::now(), false);
        assert!(budget.spend(BUDGET_AT_FIRST) && !budget.spend(1));
        tokio::time::advance(Duration::from_millis(1_500)).await;
        assert!(budget.spend(1_500) && !budget.spend(1));
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert!(!budget.spend(BUDGET + 1) && budget.spend(BUDGET) && !budget.spend(1));
        budget.earn(BUDGET + 1);
        assert!(!budget.spend(BUDGET + 1) && budget.spend(BUDGET));
    }

    #[tokio::test(start_paused = true)]
    async fn frame_budget_is_spent_before_it_refills() {
        let mut budget = FrameBudget::new(Instant::now(), true);
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert!(budget.spend(BUDGET_OF_OFFENDERS));
        assert!(budget.spend(BUDGET) && !budget.spend(1));
    }

    /// The calls that fit into the budget of a new connection.
    fn calls(of_offender: bool, earned: u32) -> u32 {
        let mut budget = FrameBudget::new(Instant::now(), of_offender);
        let mut calls = 0;
        while calls < 2 * BUDGET && budget.spend(budget.headers_cost()) {
            budget.earn(earned);
            calls += 1;
        }
        calls
    }

    #[tokio::test(start_paused = true)]
    async fn offenders_pay_more_for_calls_that_are_not_answered() {
        assert_eq!(calls(false, 0), BUDGET_AT_FIRST);
        assert_eq!(calls(true, 0), 125);
        assert_eq!(calls(true, 6), 2 * BUDGET);
    }
}
