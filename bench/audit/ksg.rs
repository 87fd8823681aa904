//! Mutual information from nearest neighbours: Kraskov, Stögbauer and Grassberger, Estimating
//! mutual information, 2004, the first of their two estimators.

/// MI in nats between `x` and `y`, which hold for each variable its values, from `k` neighbours.
pub fn ksg(x: &[Vec<f64>], y: &[Vec<f64>], k: usize) -> f64 {
    let count = x.first().map_or(0, Vec::len);
    if count <= k || k == 0 {
        return 0.0;
    }
    let mut sum = 0.0;
    let mut distances = vec![(0.0, 0.0); count];
    let mut nearest = Vec::with_capacity(count);
    for i in 0..count {
        for (j, both) in distances.iter_mut().enumerate() {
            *both = (distance(x, i, j), distance(y, i, j));
        }
        nearest.clear();
        let others = || distances.iter().enumerate().filter(|(j, _)| *j != i);
        nearest.extend(others().map(|(_, (dx, dy))| dx.max(*dy)));
        let (_, &mut radius, _) = nearest.select_nth_unstable_by(k - 1, f64::total_cmp);
        let within = |of: fn(&(f64, f64)) -> f64| others().filter(|(_, d)| of(d) < radius).count();
        let [near_x, near_y] = [within(|d| d.0), within(|d| d.1)];
        sum += digamma(near_x + 1) + digamma(near_y + 1);
    }
    digamma(k) + digamma(count) - sum / count as f64
}

/// The largest difference of two points over the variables.
fn distance(variables: &[Vec<f64>], i: usize, j: usize) -> f64 {
    let differences = variables.iter().map(|values| (values[i] - values[j]).abs());
    differences.fold(0.0, f64::max)
}

/// Of a positive integer: the harmonic number before it, less Euler's constant.
fn digamma(n: usize) -> f64 {
    const EULER: f64 = 0.577_215_664_901_532_9;
    const FEW: usize = 64;
    if n <= FEW {
        return (1..n).map(|i| 1.0 / i as f64).sum::<f64>() - EULER;
    }
    let x = n as f64;
    let square = 1.0 / (x * x);
    x.ln() - 0.5 / x - square * (1.0 / 12.0 - square * (1.0 / 120.0 - square / 252.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    const COUNT: usize = 2000;

    /// A variable of the normal distribution.
    fn normal(rng: &mut ChaCha8Rng) -> Vec<f64> {
        let mut uniform = || (f64::from(rng.next_u32()) + 0.5) / 2f64.powi(32);
        let mut one = || {
            let (a, b) = (uniform(), uniform());
            (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos()
        };
        (0..COUNT).map(|_| one()).collect()
    }

    fn mixed(terms: &[(f64, &Vec<f64>)]) -> Vec<f64> {
        let sum = |i: usize| {
            terms
                .iter()
                .map(|(factor, values)| factor * values[i])
                .sum()
        };
        (0..COUNT).map(sum).collect()
    }

    #[test]
    fn digamma_has_its_known_values() {
        assert!((digamma(1) + 0.577_215_664_9).abs() < 1e-9);
        assert!((digamma(10) - 2.251_752_589_1).abs() < 1e-9);
        assert!((digamma(65) - digamma(64) - 1.0 / 64.0).abs() < 1e-12);
    }

    #[test]
    fn gaussian_pairs_have_their_closed_form() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for rho in [0.0, 0.5, 0.9, 0.99f64] {
            let (a, b) = (normal(&mut rng), normal(&mut rng));
            let y = mixed(&[(rho, &a), ((1.0 - rho * rho).sqrt(), &b)]);
            let exact = -0.5 * (1.0 - rho * rho).ln();
            let found = ksg(&[a], &[y], 3);
            assert!((found - exact).abs() < 0.06, "{rho}: {found}, not {exact}");
        }
    }

    #[test]
    fn two_inputs_and_two_outputs_have_theirs() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let [a, b, c, d] = [0; 4].map(|_| normal(&mut rng));
        // Each output is its input and as much noise: 1/2 ln 2 for each pair.
        let outputs = [
            mixed(&[(1.0, &a), (1.0, &c)]),
            mixed(&[(1.0, &b), (1.0, &d)]),
        ];
        let found = ksg(&[a, b], &outputs, 3);
        assert!((found - 2f64.ln()).abs() < 0.08, "{found}");
    }

    #[test]
    fn what_no_correlation_shows_is_seen() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let (a, noise) = (normal(&mut rng), normal(&mut rng));
        let squares: Vec<f64> = a.iter().map(|a| a * a).collect();
        let y = mixed(&[(1.0, &squares), (0.1, &noise)]);
        assert!(ksg(&[a], &[y], 3) > 0.8);
    }
}
