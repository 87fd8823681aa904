//! The baselines: random channels and channels with the largest weights, at one ratio everywhere.

use std::error::Error;

use onnx_mipp::groups::Elements;
use onnx_mipp::groups::Widths;
use onnx_mipp::select::{Limits, Plan};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::subject::Subject;

/// A random score per channel.
pub fn random_scores(subject: &Subject<'_>, seed: u64) -> Vec<f64> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..subject.groups.channel_count)
        .map(|_| rng.random())
        .collect()
}

/// Per channel, the L1 norm of the weights that make it, over all its producers.
pub fn l1_scores(subject: &Subject<'_>) -> Result<Vec<f64>, Box<dyn Error>> {
    let mut scores = vec![0.0; subject.groups.channel_count];
    for cost in &subject.groups.costs {
        let Elements::Weight(slot) = cost.of else {
            continue;
        };
        let view = subject.graph.view(cost.node);
        let (Some(weight), Some(axes)) = (
            view.constant(slot),
            subject.groups.uses.get(&(cost.node, slot)),
        ) else {
            continue;
        };
        let made = view.output(0).map(|value| &subject.groups.values[value]);
        let weight = weight.to_f64()?;
        for (axis, map) in axes.iter().enumerate() {
            let Some(map) = map else { continue };
            let is_output = made.is_some_and(|axes| axes.iter().flatten().any(|own| own == map));
            if is_output {
                for (slice, &channel) in weight.axis_iter(ndarray::Axis(axis)).zip(map) {
                    scores[channel] += slice.iter().map(|w| w.abs()).sum::<f64>();
                }
            }
        }
    }
    Ok(scores)
}

/// The widths of the largest ratio, the same for all groups, that meets the budget.
pub fn uniform(subject: &Subject<'_>, macs: f64, limits: &Limits) -> Widths {
    let whole = subject.groups.widths();
    let prunable = subject.scene().prunable();
    let target = subject.macs.total(&whole) * macs;
    let at = |ratio: f64| {
        let mut widths = whole.clone();
        for &group in &prunable {
            let wanted = whole[group] as f64 * ratio;
            let allowed = limits.widths(&subject.groups.groups[group]);
            let near = |w: &usize| (*w as f64 - wanted).abs();
            let best = allowed
                .into_iter()
                .min_by(|a, b| near(a).total_cmp(&near(b)));
            widths[group] = best.unwrap_or(whole[group]);
        }
        widths
    };
    let fits = |widths: &Widths| subject.macs.total(widths) <= target;
    (0..=2000)
        .rev()
        .map(|step| at(f64::from(step) / 2000.0))
        .find(fits)
        .unwrap_or_else(|| at(0.0))
}

/// The plan that keeps the channels with the highest scores.
pub fn ranked(subject: &Subject<'_>, scores: &[f64], widths: &Widths) -> Plan {
    let mut stays = vec![true; subject.groups.channel_count];
    for (group, &width) in subject.groups.groups.iter().zip(widths) {
        let mut order = group.channels.clone();
        order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
        for &channel in order.iter().skip(width) {
            stays[channel] = false;
        }
    }
    Plan::of(&subject.groups, &stays)
}
