//! The graph as a drawing: a bar for each layer, longer with more channels, coloured by the MI
//! kept.

use maud::{Markup, html};

use crate::report::{GroupReport, Layer};

/// Units of the drawing, or more where rows need it; a phone shows it one to one.
const WIDTH: f64 = 360.0;
/// From one level to the next.
const STEP: f64 = 34.0;
const BAR: f64 = 9.0;
const GAP: f64 = 14.0;
const LEAST_BAR: f64 = 3.0;
/// Of a character of a label, so that labels side by side fit.
const LETTER: f64 = 4.8;

/// The colours of the MI kept: from which share on, the class of the style, and what it says.
pub const STEPS: [(f64, &str, &str); 4] = [
    (0.95, "mi1", "95 % or more of the MI kept"),
    (0.85, "mi2", "85 to 95 %"),
    (0.7, "mi3", "70 to 85 %"),
    (f64::NEG_INFINITY, "mi4", "under 70 %"),
];
/// What left.
pub const GONE: &str = "gone";

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
    let (bars, width) = place(layers);
    let height = bars.iter().map(|bar| bar.top).fold(0.0, f64::max) + BAR + 8.0;
    html! {
        svg viewBox=(format!("0 0 {width:.0} {height:.0}")) style=(format!("--wide:{:.2}", width / WIDTH)) {
            @for bar in &bars {
                @for source in bar.layer.reads.iter().filter_map(|&place| bars.get(place)) {
                    path class="flow" d=(flow(source, bar)) {}
                }
            }
            @for (index, bar) in bars.iter().enumerate() { (one(index, bar, groups)) }
        }
    }
}

fn one(index: usize, bar: &Bar<'_>, groups: &[GroupReport]) -> Markup {
    let group = bar.layer.group.and_then(|index| groups.get(index));
    let (left, top) = (format!("{:.1}", bar.left), format!("{:.1}", bar.top));
    let [whole, kept] = [bar.whole, bar.kept].map(|width| format!("{width:.1}"));
    let text = channels(bar.layer);
    html! {
        a id=(format!("bar{index}")) href=(format!("#row{index}")) tabindex="-1" {
            title {
                (bar.layer.name) " (" (bar.layer.operator) "): "
                @if text.is_empty() { "no" } @else { (text) } " channels" (what(group))
            }
            rect class="whole" x=(left) y=(top) width=(whole) height=(BAR) rx="2" {}
            rect class=(shade(group)) x=(left) y=(top) width=(kept) height=(BAR) rx="2" {}
            text x=(format!("{:.1}", bar.middle())) y=(format!("{:.1}", bar.top - 3.0)) text-anchor="middle" { (text) }
        }
    }
}

fn channels(layer: &Layer) -> String {
    let channels = layer.channels;
    match (channels.before, channels.after) {
        (0, _) => String::new(),
        (before, after) if before == after => before.to_string(),
        (before, after) => format!("{before} → {after}"),
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

/// The share of the MI that a group keeps, where it was judged and may be pruned.
pub fn mi_kept(group: &GroupReport) -> Option<f64> {
    let score = group.score.filter(|_| group.frozen.is_empty());
    score.map(|score| score.mi_kept)
}

/// The class of a colour: one of [`STEPS`], or another for what was judged on made-up inputs, and
/// for what is frozen or was not judged.
pub fn shade(group: Option<&GroupReport>) -> &'static str {
    match group.and_then(|group| Some((group, mi_kept(group)?))) {
        Some((group, _)) if group.synthetic => "judged",
        Some((_, kept)) => {
            let step = STEPS.iter().find(|(least, ..)| kept >= *least);
            step.map_or("frozen", |(_, class, _)| class)
        }
        None => "frozen",
    }
}

/// Bars of one level stand side by side; all have one scale, of roots: else one wide layer, such as
/// thousands of classes, would leave nothing to see of the others. Also how wide all of it is.
fn place(layers: &[Layer]) -> (Vec<Bar<'_>>, f64) {
    let levels = layers.iter().map(|layer| layer.level + 1).max();
    let mut rows: Vec<Vec<usize>> = vec![Vec::new(); levels.unwrap_or(0)];
    for (index, layer) in layers.iter().enumerate() {
        if let Some(row) = rows.get_mut(layer.level) {
            row.push(index);
        }
    }
    let root = |channels: usize| (channels as f64).sqrt();
    let before = |&index: &usize| layers.get(index).map_or(0.0, |l| root(l.channels.before));
    let gaps = |row: &[usize]| GAP * row.len().saturating_sub(1) as f64;
    let scale = rows.iter().map(|row| {
        let room = WIDTH - 8.0 - gaps(row);
        room.max(WIDTH / 4.0) / row.iter().map(before).sum::<f64>().max(1.0)
    });
    let scale = scale.fold(f64::INFINITY, f64::min);
    let bar = |channels: usize| (root(channels) * scale).max(LEAST_BAR);
    let slot = |layer: &Layer| {
        let label = channels(layer).chars().count() as f64 * LETTER;
        bar(layer.channels.before).max(label)
    };
    let total = |row: &[usize]| {
        let members = row.iter().filter_map(|&index| layers.get(index));
        members.map(slot).sum::<f64>() + gaps(row)
    };
    let width = rows
        .iter()
        .map(|row| total(row) + 8.0)
        .fold(WIDTH, f64::max);
    let mut bars: Vec<Option<Bar<'_>>> = layers.iter().map(|_| None).collect();
    for (level, row) in rows.iter().enumerate() {
        let mut left = (width - total(row)) / 2.0;
        for &index in row {
            let (Some(layer), Some(place)) = (layers.get(index), bars.get_mut(index)) else {
                continue;
            };
            let (slot, whole) = (slot(layer), bar(layer.channels.before));
            *place = Some(Bar {
                layer,
                left: left + (slot - whole) / 2.0,
                top: 14.0 + level as f64 * STEP,
                whole,
                kept: whole * layer.channels.after as f64 / layer.channels.before.max(1) as f64,
            });
            left += slot + GAP;
        }
    }
    (bars.into_iter().flatten().collect(), width)
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
