//! Whether a measured split can be the configured one.

/// The central interval of the binomial distribution: the counts that `trials` draws of probability `share`
/// stay within, but for a chance of `outside` (split evenly over both ends).
pub(crate) fn binomial_interval(trials: u32, share: f64, outside: f64) -> (u32, u32) {
    let log_share = share.ln();
    let log_rest = (1.0 - share).ln();
    // ln C(n, k), grown term by term.
    let mut log_choose = 0.0_f64;
    let mut cumulative = 0.0_f64;
    let mut low = 0;
    for successes in 0..=trials {
        if successes > 0 {
            log_choose += f64::from(trials - successes + 1).ln() - f64::from(successes).ln();
        }
        cumulative += (log_choose
            + f64::from(successes) * log_share
            + f64::from(trials - successes) * log_rest)
            .exp();
        if cumulative <= outside / 2.0 {
            low = successes + 1;
        }
        if cumulative >= 1.0 - outside / 2.0 {
            return (low, successes);
        }
    }
    (low, trials)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_the_one_of_the_tables() {
        // Tables of the binomial distribution: P(X <= 4) = 0.0059, P(X <= 5) = 0.0207 for n = 20, p = 0.5.
        assert_eq!(binomial_interval(20, 0.5, 0.05), (6, 14));
        let (low, high) = binomial_interval(2000, 0.1, 0.0001);
        assert!((147..=153).contains(&low) && (250..=256).contains(&high), "{low} {high}");
    }
}
