//! Where a model that is walked level by level starts again. What a level asks for can be computed
//! from the values that were put away at any level before, by running the nodes between once more:
//! less is moved where few and small values wait, less is computed where many do.

use std::collections::BTreeSet;

/// A value that levels read which do not make it.
#[derive(Debug, Clone)]
pub(crate) struct Crossing {
    /// What it costs to put it away or to fetch it.
    pub cost: f64,
    /// The level that makes it; `None` for the model's inputs.
    pub made: Option<usize>,
    /// The levels that read it, the one that makes it left out.
    pub readers: BTreeSet<usize>,
}

/// More levels than this do not start from the same values: the costs grow as its square.
const LONGEST: usize = 16;

/// The levels that begin a run, the first of them 0. All levels of a run start from what waits when
/// it begins, and run its nodes so far; the last of them puts away what later runs read. `work` is
/// what the nodes of each level cost.
///
/// The least cost over all choices, by dynamic programming over the levels.
pub(crate) fn starts(work: &[f64], crossings: &[Crossing]) -> Vec<usize> {
    // Per number of levels, the least cost, and where its last run begins.
    let mut best = vec![(0.0, 0)];
    for end in 1..=work.len() {
        let of_last = |start: usize| (best[start].0 + cost(work, crossings, start, end), start);
        let choices = (end.saturating_sub(LONGEST)..end).map(of_last);
        let least = choices.min_by(|a, b| a.0.total_cmp(&b.0));
        best.extend(least);
    }
    let mut starts = Vec::new();
    let mut end = work.len();
    while end > 0 {
        end = best[end].1;
        starts.push(end);
    }
    starts.reverse();
    starts
}

/// What the run of levels `start..end` computes, fetches and puts away.
fn cost(work: &[f64], crossings: &[Crossing], start: usize, end: usize) -> f64 {
    let levels = start..end;
    let computed = levels.clone().zip(&work[levels.clone()]);
    let computed: f64 = computed.map(|(at, work)| work * (end - at) as f64).sum();
    let moved = crossings.iter().map(|crossing| {
        let known = crossing.made.is_none_or(|made| made < start);
        let reader = crossing.readers.range(levels.clone()).next();
        let fetched = reader.map_or(0, |&reader| if known { end - reader } else { 0 });
        let is_left = crossing.readers.range(end..).next().is_some();
        let put = match crossing.made {
            Some(made) => is_left && levels.contains(&made),
            // The second level of the first run fetches them too.
            None => start == 0 && (is_left || end > 1),
        };
        crossing.cost * (fetched + usize::from(put)) as f64
    });
    computed + moved.sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// Costs in halves and wholes: sums are exact in any order.
    fn case(rng: &mut ChaCha8Rng) -> (Vec<f64>, Vec<Crossing>) {
        let mut up_to = |end: u32| rng.next_u32() % end;
        let levels = 1 + up_to(7) as usize;
        let work = (0..levels).map(|_| f64::from(up_to(20)) / 2.0).collect();
        let mut crossings = Vec::new();
        for _ in 0..up_to(8) {
            let made = up_to(levels as u32 + 1) as usize;
            let made = (made < levels).then_some(made);
            let first = made.map_or(0, |made| made + 1);
            let readers = (first..levels).filter(|_| up_to(3) == 0).collect();
            let cost = f64::from(up_to(20)) / 2.0;
            crossings.push(Crossing {
                cost,
                made,
                readers,
            });
        }
        (work, crossings)
    }

    /// Walks the levels with a cache and adds up what is done.
    fn simulated(work: &[f64], crossings: &[Crossing], starts: &[usize]) -> f64 {
        let mut cache = BTreeSet::new();
        let mut sum = 0.0;
        for (level, _) in work.iter().enumerate() {
            let run: Vec<usize> = starts.iter().copied().filter(|&s| s <= level).collect();
            let start = run[run.len() - 1];
            let is_last = level + 1 == work.len() || starts.contains(&(level + 1));
            sum += work[start..=level].iter().sum::<f64>();
            for (id, crossing) in crossings.iter().enumerate() {
                let is_read = (start..=level).any(|again| crossing.readers.contains(&again));
                let is_new = crossing.made.is_some_and(|made| made >= start);
                if is_read && !is_new {
                    assert!(level == 0 || cache.contains(&id), "{id} waits for {level}");
                    sum += crossing.cost;
                }
                let later = crossing.readers.range(level + 1..).next().is_some();
                let is_put = match crossing.made {
                    Some(made) => is_last && (start..=level).contains(&made) && later,
                    None => level == 0 && (later || !is_last),
                };
                if is_put {
                    assert!(cache.insert(id), "{id} is put away once");
                    sum += crossing.cost;
                }
            }
        }
        sum
    }

    #[test]
    fn no_other_choice_costs_less() {
        let mut rng = ChaCha8Rng::seed_from_u64(11);
        let mut split = 0;
        for _ in 0..400 {
            let (work, crossings) = case(&mut rng);
            let all = 0..1usize << (work.len() - 1);
            let choices = all.map(|bits| {
                let begins = |&level: &usize| level == 0 || bits >> (level - 1) & 1 == 1;
                let starts: Vec<usize> = (0..work.len()).filter(begins).collect();
                simulated(&work, &crossings, &starts)
            });
            let least = choices.fold(f64::INFINITY, f64::min);
            let found = starts(&work, &crossings);
            assert_eq!(simulated(&work, &crossings, &found), least, "{work:?}");
            split += usize::from(found.len() > 1 && found.len() < work.len());
        }
        assert!(split > 50, "{split} choices are neither one run nor all");
    }
}
