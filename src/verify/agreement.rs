//! How sure a share of agreeing samples is.

/// Beyond the interval lies this probability.
const TAIL: f64 = 0.1;
/// Halvings of the interval in which the bound lies.
const STEPS: usize = 50;

/// The least share that `agreed` of `all` samples speak for, with a confidence of 90 %: the lower
/// end of the exact interval (Clopper and Pearson 1934), at which so many or more would agree with
/// a probability of a tenth.
#[must_use]
pub fn least(agreed: usize, all: usize) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..STEPS {
        let middle = f64::midpoint(low, high);
        if at_least(agreed, all, middle) > TAIL {
            high = middle;
        } else {
            low = middle;
        }
    }
    low
}

/// How many samples have to agree, all of them, so that they speak for at least that share; `None`
/// where no number of them does.
#[must_use]
pub fn needed(share: f64) -> Option<usize> {
    // The exact interval of all that agree: share^n = a tenth.
    let count = (TAIL.ln() / share.ln()).ceil();
    (share < 1.0 && count.is_finite()).then_some(count.max(1.0) as usize)
}

/// The probability that `agreed` of `all` samples agree or more, of which each does with that one.
fn at_least(agreed: usize, all: usize, each: f64) -> f64 {
    if agreed == 0 {
        return 1.0;
    }
    let (one, other) = (each.ln(), (-each).ln_1p());
    let mut ways = 0.0;
    let mut sum = 0.0;
    for count in (agreed..=all).rev() {
        let others = all - count;
        sum += (ways + count as f64 * one + others as f64 * other).exp();
        // From all over n to all over n - 1.
        ways += (count as f64).ln() - (others as f64 + 1.0).ln();
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Closed forms: of all, the n-th root of a tenth; of one, 1 less the n-th root of nine tenths;
    /// and others summed up elsewhere.
    #[test]
    fn the_ends_are_those_of_closed_forms() {
        for all in [1_i32, 2, 10, 64, 256, 4000] {
            let count = all as usize;
            let root = |of: f64| of.powf(1.0 / f64::from(all));
            assert!((least(count, count) - root(0.1)).abs() < 1e-9, "{all}");
            assert!((least(1, count) - (1.0 - root(0.9))).abs() < 1e-9, "{all}");
            assert!(least(0, count) < 1e-9);
        }
        // By sums of exact binomial coefficients.
        assert!((least(9, 10) - 0.663_152).abs() < 1e-6);
        assert!((least(45, 50) - 0.822_382).abs() < 1e-6);
    }

    #[test]
    fn so_many_are_needed() {
        for share in [0.5, 0.9, 0.98, 0.999] {
            let count = needed(share).unwrap_or_default();
            assert!(least(count, count) >= share && least(count - 1, count - 1) < share);
        }
        assert_eq!(needed(1.0), None);
    }
}
