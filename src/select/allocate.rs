//! Sharing a budget between groups: the widths at which the least is lost for what is saved.

use crate::graph::GroupId;
use crate::groups::Widths;
use crate::select::cost::CostModel;

/// What a group may become and what that loses.
#[derive(Debug, Clone)]
pub struct Choice {
    /// The group.
    pub group: GroupId,
    /// Widths that are allowed, from the present one down.
    pub widths: Vec<usize>,
    /// The loss at each of these widths; the first is 0.
    pub losses: Vec<f64>,
}

impl Choice {
    /// The loss where the groups have these widths; none at a width that is not allowed.
    #[must_use]
    pub fn loss_at(&self, widths: &Widths) -> f64 {
        let width = widths.get(self.group);
        let place = self
            .widths
            .iter()
            .position(|allowed| Some(allowed) == width);
        let loss = place.and_then(|place| self.losses.get(place));
        loss.copied().unwrap_or_default()
    }
}

/// The present width, then those from there down to `least`, in multiples of `align` where the
/// present width is one: a layer that never was aligned has nothing to keep.
#[must_use]
pub fn allowed_widths(width: usize, align: usize, least: usize) -> Vec<usize> {
    let align = align.max(1);
    let align = if width.is_multiple_of(align) {
        align
    } else {
        1
    };
    let least = least.max(1);
    let steps = (1..width).rev().filter(|w| w % align == 0 && *w >= least);
    std::iter::once(width).chain(steps).collect()
}

/// What a model may cost.
#[derive(Debug, Clone)]
pub struct Target {
    /// The cost as a function of the widths.
    pub cost: CostModel,
    /// What it may be at most.
    pub most: f64,
}

impl Target {
    /// Whether a model of these widths costs no more.
    #[must_use]
    pub fn is_met(&self, widths: &Widths) -> bool {
        self.cost.total(widths) <= self.most
    }
}

/// Whether all of them are.
#[must_use]
pub fn are_met(targets: &[Target], widths: &Widths) -> bool {
    targets.iter().all(|target| target.is_met(widths))
}

/// Narrows the groups until the targets are met, always taking the step that loses the least per
/// cost saved, then takes steps back that the rest of the targets allows. Of several targets those
/// count that are not yet met, each as a share of the whole model's cost. Returns the widths of all
/// groups.
#[must_use]
pub fn allocate(choices: &[Choice], targets: &[Target], mut widths: Widths) -> Widths {
    let costs = Costs::of(choices, targets, &widths);
    let mut places = vec![0usize; choices.len()];
    let next = |index: usize, missed: &[bool], places: &[usize], widths: &Widths| {
        let saved = |trial: &Widths| costs.saved(index, missed, widths, trial);
        next_step(&choices[index], places[index], widths, saved)
    };
    let all = 0..choices.len();
    let mut steps: Vec<Option<(f64, usize)>> = Vec::new();
    let mut missed: Vec<bool> = Vec::new();
    loop {
        let still: Vec<bool> = targets
            .iter()
            .map(|target| !target.is_met(&widths))
            .collect();
        if !still.contains(&true) {
            break;
        }
        if still != missed {
            missed = still;
            let every = all
                .clone()
                .map(|index| next(index, &missed, &places, &widths));
            steps = every.collect();
        }
        let mut best: Option<(f64, usize, usize)> = None;
        for (index, step) in steps.iter().enumerate() {
            let Some((score, place)) = *step else {
                continue;
            };
            if best.is_none_or(|(least, _, _)| score < least) {
                best = Some((score, index, place));
            }
        }
        let Some((_, index, place)) = best else { break };
        // One step of the best run at a time: the others' savings change with it.
        places[index] += 1;
        debug_assert!(places[index] <= place);
        let group = choices[index].group;
        widths[group] = choices[index].widths[places[index]];
        for other in all.clone().filter(|&other| costs.touches(other, group)) {
            steps[other] = next(other, &missed, &places, &widths);
        }
    }
    loop {
        take_back(choices, targets, &mut places, &mut widths);
        if !swap(choices, targets, &mut places, &mut widths) {
            return widths;
        }
    }
}

/// What steps save of the targets' costs.
struct Costs {
    /// Of every choice and every target, the part of the cost that it changes.
    parts: Vec<Vec<CostModel>>,
    /// What makes costs of several kinds comparable.
    weights: Vec<f64>,
}

impl Costs {
    fn of(choices: &[Choice], targets: &[Target], whole: &Widths) -> Self {
        let parts = |choice: &Choice| {
            let touching = targets
                .iter()
                .map(|target| target.cost.touching(choice.group));
            touching.collect()
        };
        let weight = |target: &Target| 1.0 / target.cost.total(whole).max(f64::MIN_POSITIVE);
        Costs {
            parts: choices.iter().map(parts).collect(),
            weights: match targets {
                [_] => vec![1.0],
                several => several.iter().map(weight).collect(),
            },
        }
    }

    /// What the targets that are `missed` cost less after a step of one choice.
    fn saved(&self, index: usize, missed: &[bool], before: &Widths, after: &Widths) -> f64 {
        let parts = self.parts[index].iter().zip(&self.weights).zip(missed);
        let wanted = parts.filter(|(_, missed)| **missed);
        let saved =
            wanted.map(|((part, weight), _)| weight * (part.total(before) - part.total(after)));
        saved.sum()
    }

    fn touches(&self, index: usize, group: GroupId) -> bool {
        self.parts[index].iter().any(|part| part.touches(group))
    }
}

/// The run of steps with the least loss per cost saved, so that one dear step does not hide cheap
/// ones behind it: its score and where it ends. None where no step saves anything.
fn next_step(
    choice: &Choice,
    place: usize,
    widths: &Widths,
    saved: impl Fn(&Widths) -> f64,
) -> Option<(f64, usize)> {
    let mut trial = widths.clone();
    let mut best: Option<(f64, usize)> = None;
    for next in place + 1..choice.widths.len() {
        trial[choice.group] = choice.widths[next];
        let saved = saved(&trial);
        let lost = choice.losses[next] - choice.losses[place];
        if saved <= 0.0 {
            continue;
        }
        let score = lost / saved;
        if best.is_none_or(|(least, _)| score < least) {
            best = Some((score, next));
        }
    }
    best
}

/// Undoes the steps that lose most for what they cost, as long as the targets hold.
fn take_back(choices: &[Choice], targets: &[Target], places: &mut [usize], widths: &mut Widths) {
    loop {
        let mut best: Option<(f64, usize)> = None;
        for (index, choice) in choices.iter().enumerate() {
            let Some(before) = places[index].checked_sub(1) else {
                continue;
            };
            let mut trial = widths.clone();
            trial[choice.group] = choice.widths[before];
            let gained = choice.losses[places[index]] - choice.losses[before];
            if are_met(targets, &trial) && best.is_none_or(|(most, _)| gained > most) {
                best = Some((gained, index));
            }
        }
        let Some((_, index)) = best else { return };
        places[index] -= 1;
        widths[choices[index].group] = choices[index].widths[places[index]];
    }
}

/// Narrows one group by up to two steps to widen another by one, where that loses less in all and
/// the targets hold; the best such exchange. False when there is none.
fn swap(choices: &[Choice], targets: &[Target], places: &mut [usize], widths: &mut Widths) -> bool {
    const STEPS: [usize; 2] = [1, 2];
    let mut best: Option<(f64, usize, usize, usize)> = None;
    let mut trial = widths.clone();
    for (wider, choice) in choices.iter().enumerate() {
        let Some(before) = places[wider].checked_sub(1) else {
            continue;
        };
        trial[choice.group] = choice.widths[before];
        let gain = choice.losses[places[wider]] - choice.losses[before];
        for (narrower, other) in choices
            .iter()
            .enumerate()
            .filter(|(index, _)| *index != wider)
        {
            for place in STEPS.map(|step| places[narrower] + step) {
                let (Some(&width), Some(loss)) = (other.widths.get(place), other.losses.get(place))
                else {
                    continue;
                };
                let gain = gain - (loss - other.losses[places[narrower]]);
                trial[other.group] = width;
                // A margin keeps rounding from exchanging the same two groups for ever.
                let is_better = best.is_none_or(|(most, ..)| gain > most) && gain > 1e-9;
                if is_better && are_met(targets, &trial) {
                    best = Some((gain, wider, narrower, place));
                }
            }
            trial[other.group] = widths[other.group];
        }
        trial[choice.group] = widths[choice.group];
    }
    let Some((_, wider, narrower, place)) = best else {
        return false;
    };
    places[wider] -= 1;
    places[narrower] = place;
    for index in [wider, narrower] {
        widths[choices[index].group] = choices[index].widths[places[index]];
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::select::cost::Curve;

    #[test]
    fn widths_step_down_in_multiples() {
        assert_eq!(allowed_widths(24, 8, 1), [24, 16, 8]);
        assert_eq!(allowed_widths(16, 8, 9), [16]);
        assert_eq!(allowed_widths(8, 8, 1), [8]);
        assert_eq!(allowed_widths(3, 1, 2), [3, 2]);
    }

    #[test]
    fn groups_that_save_nothing_stay() {
        let choice = |group: usize| Choice {
            group: GroupId::from(group),
            widths: vec![4, 3, 2, 1],
            losses: vec![0.0, 1.0, 2.0, 3.0],
        };
        let choices = [choice(0), choice(1), choice(2)];
        // The second is slower at every smaller width, the third is nowhere in the cost.
        let curve = |group: usize, least| Curve {
            group: GroupId::from(group),
            points: vec![(1, least), (4, 1.0)],
        };
        let cost = CostModel::measured(1.0, [curve(0, 0.5), curve(1, 1.5)]);
        for (most, kept) in [(0.7, 2), (0.1, 1)] {
            let cost = cost.clone();
            let widths = allocate(&choices, &[Target { cost, most }], vec![4; 3].into());
            assert_eq!(widths, vec![kept, 4, 4].into());
        }
    }

    #[test]
    fn unaligned_widths_step_down_by_one() {
        assert_eq!(allowed_widths(5, 4, 3), [5, 4, 3]);
        assert_eq!(allowed_widths(6, 8, 5), [6, 5]);
    }
}
