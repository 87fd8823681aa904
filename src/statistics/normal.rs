//! Normal scores: values replaced by quantiles of the normal distribution at their ranks.

/// The normal scores of values: the quantile at `rank / (n + 1)`, where equal values share the mean
/// of their ranks. NaN ranks highest.
#[must_use]
pub fn normal_scores(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut scores = vec![0.0; values.len()];
    let mut before = 0;
    for equal in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let mean_rank = before as f64 + (equal.len() + 1) as f64 / 2.0;
        let score = quantile(mean_rank / (values.len() + 1) as f64);
        equal.iter().for_each(|&place| scores[place] = score);
        before += equal.len();
    }
    scores
}

/// The standard normal quantile at `p`, at least 1e-10 away from 0 and 1, to about 16 digits:
/// Wichura, *Algorithm AS 241: The percentage points of the normal distribution*, 1988. By hand:
/// from statrs it would be one function, and other last digits other results.
fn quantile(p: f64) -> f64 {
    let offset = p - 0.5;
    if offset.abs() <= 0.425 {
        let r = 0.180_625 - offset * offset;
        return offset * horner(&CENTRE, r) / horner(&CENTRE_BELOW, r);
    }
    let r = (-p.min(1.0 - p).ln()).sqrt() - 1.6;
    (horner(&TAIL, r) / horner(&TAIL_BELOW, r)).copysign(offset)
}

/// A polynomial, the highest power first.
fn horner(coefficients: &[f64], x: f64) -> f64 {
    coefficients.iter().fold(0.0, |sum, c| sum * x + c)
}

const CENTRE: [f64; 8] = [
    2509.0809287301227,
    33430.57558358813,
    67265.7709270087,
    45921.95393154987,
    13731.69376550946,
    1971.5909503065513,
    133.14166789178438,
    3.3871328727963665,
];
const CENTRE_BELOW: [f64; 8] = [
    5226.495278852854,
    28729.085735721943,
    39307.89580009271,
    21213.794301586597,
    5394.196021424751,
    687.1870074920579,
    42.31333070160091,
    1.0,
];
const TAIL: [f64; 8] = [
    0.0007745450142783414,
    0.022723844989269184,
    0.2417807251774506,
    1.2704582524523684,
    3.6478483247632045,
    5.769497221460691,
    4.630337846156546,
    1.4234371107496835,
];
const TAIL_BELOW: [f64; 8] = [
    1.0507500716444169e-09,
    0.0005475938084995345,
    0.015198666563616457,
    0.14810397642748008,
    0.6897673349851,
    1.6763848301838038,
    2.053191626637759,
    1.0,
];

#[cfg(test)]
mod tests {
    use super::*;

    /// The distribution function by Simpson's rule on the density.
    fn probability(x: f64) -> f64 {
        let steps = 2000;
        let width = x / f64::from(steps);
        let density = |i: u32| (-0.5 * (width * f64::from(i)).powi(2)).exp();
        let weight = |i: u32| match i {
            0 => 1.0,
            i if i == steps => 1.0,
            i if i % 2 == 1 => 4.0,
            _ => 2.0,
        };
        let sum: f64 = (0..=steps).map(|i| weight(i) * density(i)).sum();
        0.5 + sum * width / 3.0 / std::f64::consts::TAU.sqrt()
    }

    #[test]
    fn quantiles_invert_the_integral_of_the_density() {
        assert_eq!(quantile(0.5), 0.0);
        for p in [1e-5, 1e-3, 0.02, 0.074, 0.076, 0.3, 0.6, 0.92, 0.93, 0.999] {
            assert!((probability(quantile(p)) - p).abs() < 1e-12, "{p}");
        }
        // The well known ones.
        assert!((quantile(0.975) - 1.959_963_984_540_054).abs() < 1e-14);
        assert!((quantile(0.75) - 0.674_489_750_196_082).abs() < 1e-14);
    }

    #[test]
    fn equal_values_share_the_mean_of_their_ranks() {
        // Ranks 2, 2, 2, 5, 4 of 5.
        let scores = normal_scores(&[0.0, 0.0, 0.0, 7.0, 1.0]);
        let expected = [2.0, 2.0, 2.0, 5.0, 4.0].map(|rank: f64| quantile(rank / 6.0));
        assert_eq!(scores, expected);
        // One third and five sixths.
        assert!((scores[0] + 0.430_727_299_295_457).abs() < 1e-12);
        assert!((scores[3] - 0.967_421_566_101_701).abs() < 1e-12);
        assert_eq!(normal_scores(&[3.0; 4]), [0.0; 4]);
        // The zeros of both signs are equal.
        assert_eq!(normal_scores(&[0.0, -0.0]), [0.0; 2]);
    }
}
