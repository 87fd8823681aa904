//! The graph as a drawing: a bar for each layer, as wide as its channels, coloured by the MI kept.

use maud::{Markup, html};

use crate::report::{GroupReport, Layer};

/// Units of the drawing; a phone shows it one to one.
const WIDTH: f64 = 360.0;
/// From one level to the next.
const STEP: f64 = 34.0;
const BAR: f64 = 9.0;
const GAP: f64 = 14.0;
/// So that numbers fit.
const LEAST_BAR: f64 = 3.0;

struct Bar<'a> {
    layer: &'a Layer,
    left: f64,
    top: f64,
    whole: f64,
    kept: f64,
}

impl Bar<'_> {
    fn middle(&self) -> f64 {
        self.left + self.whole / 2.0
    }
}

/// The drawing from the inputs at the top to the outputs at the bottom.
pub fn draw(layers: &[Layer], groups: &[GroupReport]) -> Markup {
    let bars = place(layers);
    let height = bars.iter().map(|bar| bar.top).fold(0.0, f64::max) + BAR + 8.0;
    html! {
        svg viewBox=(format!("0 0 {WIDTH} {height:.0}")) role="img" aria-label="layers and their channels" {
            @for bar in &bars {
                @for source in bar.layer.reads.iter().filter_map(|&place| bars.get(place)) {
                    path class="flow" d=(flow(source, bar)) {}
                }
            }
            @for bar in &bars { (one(bar, groups)) }
        }
    }
}

fn one(bar: &Bar<'_>, groups: &[GroupReport]) -> Markup {
    let group = bar.layer.group.and_then(|index| groups.get(index));
    let (left, top) = (format!("{:.1}", bar.left), format!("{:.1}", bar.top));
    let kept = format!("{:.1}", bar.kept);
    let channels = bar.layer.channels;
    let text = if channels.before == channels.after {
        format!("{}", channels.before)
    } else {
        format!("{} → {}", channels.before, channels.after)
    };
    html! {
        g {
            title { (bar.layer.name) " (" (bar.layer.operator) "): " (text) " channels" (what(group)) }
            rect class="whole" x=(left) y=(top) width=(format!("{:.1}", bar.whole)) height=(BAR) rx="2" {}
            rect x=(left) y=(top) width=(kept) height=(BAR) rx="2" style=(format!("fill:{}", colour(group))) {}
            text x=(format!("{:.1}", bar.middle())) y=(format!("{:.1}", bar.top - 3.0)) text-anchor="middle" { (text) }
        }
    }
}

fn what(group: Option<&GroupReport>) -> String {
    match group {
        Some(group) if !group.frozen.is_empty() => ", frozen".to_owned(),
        Some(
            group @ GroupReport {
                score: Some(score), ..
            },
        ) => {
            let whose = if group.synthetic {
                " of made-up inputs"
            } else {
                ""
            };
            format!(", {:.1} % of the MI{whose} kept", score.mi_kept * 100.0)
        }
        _ => String::new(),
    }
}

/// Grey for what is frozen or was not judged, darker for what was judged on made-up inputs; else
/// poor, fair, good or between by the MI kept: half, three quarters, all.
pub fn colour(group: Option<&GroupReport>) -> String {
    let score = group
        .filter(|group| group.frozen.is_empty())
        .and_then(|group| group.score);
    match score {
        Some(_) if group.is_some_and(|group| group.synthetic) => "var(--soft)".to_owned(),
        Some(score) => {
            let share = (score.mi_kept - 0.5) * 4.0;
            let (from, to, share) = if share < 1.0 {
                ("poor", "fair", share.max(0.0))
            } else {
                ("fair", "good", (share - 1.0).min(1.0))
            };
            format!(
                "color-mix(in oklab, var(--{to}) {:.0}%, var(--{from}))",
                share * 100.0
            )
        }
        None => "var(--frozen)".to_owned(),
    }
}

/// Bars of one level stand side by side; all have one scale.
fn place(layers: &[Layer]) -> Vec<Bar<'_>> {
    let levels = layers
        .iter()
        .map(|layer| layer.level + 1)
        .max()
        .unwrap_or(0);
    let mut rows: Vec<Vec<usize>> = vec![Vec::new(); levels];
    for (index, layer) in layers.iter().enumerate() {
        if let Some(row) = rows.get_mut(layer.level) {
            row.push(index);
        }
    }
    let channels =
        |&index: &usize| layers.get(index).map_or(0, |layer| layer.channels.before) as f64;
    let scale = rows.iter().map(|row| {
        let room = WIDTH - 8.0 - GAP * row.len().saturating_sub(1) as f64;
        room.max(WIDTH / 4.0) / row.iter().map(channels).sum::<f64>().max(1.0)
    });
    let scale = scale.fold(f64::INFINITY, f64::min);
    let width = |channels: usize| (channels as f64 * scale).max(LEAST_BAR);
    let mut bars: Vec<Option<Bar<'_>>> = layers.iter().map(|_| None).collect();
    for (level, row) in rows.iter().enumerate() {
        let members = || {
            row.iter()
                .filter_map(|&index| Some((index, layers.get(index)?)))
        };
        let total: f64 = members()
            .map(|(_, layer)| width(layer.channels.before))
            .sum();
        let mut left = (WIDTH - total - GAP * row.len().saturating_sub(1) as f64) / 2.0;
        for (index, layer) in members() {
            let whole = width(layer.channels.before);
            if let Some(place) = bars.get_mut(index) {
                *place = Some(Bar {
                    layer,
                    left,
                    top: 14.0 + level as f64 * STEP,
                    whole,
                    kept: width(layer.channels.after),
                });
            }
            left += whole + GAP;
        }
    }
    bars.into_iter().flatten().collect()
}

/// A line from the bottom of one bar to the top of another; past a level it swings to the side.
fn flow(from: &Bar<'_>, to: &Bar<'_>) -> String {
    let (x1, y1) = (from.middle(), from.top + BAR);
    let (x2, y2) = (to.middle(), to.top - 11.0);
    let aside = match to.layer.level.saturating_sub(from.layer.level) {
        0 | 1 => 0.0,
        levels => {
            (from.whole.max(to.whole) / 2.0 + 12.0 + 3.0 * levels as f64).min(WIDTH / 2.0 - 4.0)
        }
    };
    let third = (y2 - y1) / 3.0;
    format!(
        "M{x1:.1} {y1:.1}C{:.1} {:.1} {:.1} {:.1} {x2:.1} {y2:.1}",
        x1 + aside,
        y1 + third,
        x2 + aside,
        y2 - third
    )
}
