//! Marks like those of writing.

use rand_chacha::ChaCha8Rng;

use crate::synthetic::draw::{chance, count, uniform};
use crate::synthetic::outline::{Canvas, Point};

/// Writes made-up letters from the top left corner `start` on as far as `right`, `size` pixels
/// high, onto a canvas of `fine` sub-pixels for each pixel.
pub fn write(
    rng: &mut ChaCha8Rng,
    canvas: &mut Canvas,
    start: Point,
    (size, right): (f32, f32),
    fine: f32,
) {
    let thick = size * uniform(rng, 0.06, 0.16);
    let (wide, lean) = (uniform(rng, 0.35, 0.9), uniform(rng, -0.05, 0.2));
    let serif = chance(rng, 0.3);
    let mut left = start[0];
    while left < right {
        let width = size * wide * uniform(rng, 0.5, 1.1);
        // Small letters keep to the lower part.
        let top = if chance(rng, 0.5) { 0.0 } else { 0.3 };
        for stroke in letter(rng, serif) {
            let place = |[x, y]: Point| {
                let down = top + y * (1.0 - top);
                let across = left + x * width + lean * size * (1.0 - down);
                [across * fine, (start[1] + down * size) * fine]
            };
            for pair in stroke.windows(2) {
                canvas.fill(&thickened(place(pair[0]), place(pair[1]), thick * fine), 1);
            }
        }
        left += width + size * uniform(rng, 0.08, 0.2);
        if chance(rng, 0.15) {
            left += 0.4 * size;
        }
    }
}

/// A few strokes inside a square of side 1, each a row of points.
fn letter(rng: &mut ChaCha8Rng, serif: bool) -> Vec<Vec<Point>> {
    let mut strokes = Vec::new();
    for _ in 0..count(rng, 1, 4) {
        let stroke = match count(rng, 0, 4) {
            0 => {
                let x = [0.1, 0.5, 0.9][count(rng, 0, 2)];
                vec![[x, 0.0], [x, 1.0]]
            }
            1 => {
                let y = [0.05, 0.5, 0.95][count(rng, 0, 2)];
                vec![[0.05, y], [0.95, y]]
            }
            2 => {
                let flip = chance(rng, 0.5);
                let ends = [[0.1, 0.0], [0.9, 1.0]];
                ends.map(|[x, y]| [if flip { 1.0 - x } else { x }, y])
                    .into()
            }
            _ => arc(rng),
        };
        if serif && let (Some(&[x, y]), true) = (stroke.last(), chance(rng, 0.6)) {
            strokes.push(vec![[x - 0.15, y], [x + 0.15, y]]);
        }
        strokes.push(stroke);
    }
    strokes
}

/// A part of an ellipse, up to all of it.
fn arc(rng: &mut ChaCha8Rng) -> Vec<Point> {
    const STEPS: usize = 10;
    let tall = uniform(rng, 0.2, 0.5);
    let (middle, from) = (uniform(rng, tall, 1.0 - tall), uniform(rng, 0.0, 6.3));
    let round = uniform(rng, 2.5, 6.3);
    let point = |step: usize| {
        let angle = from + round * step as f32 / STEPS as f32;
        [0.5 + 0.42 * angle.cos(), middle + tall * angle.sin()]
    };
    (0..=STEPS).map(point).collect()
}

/// A line of that thickness as an outline, a little longer so that corners close.
fn thickened(from: Point, to: Point, thick: f32) -> [Point; 4] {
    let [dx, dy] = [to[0] - from[0], to[1] - from[1]];
    let length = dx.hypot(dy).max(1e-6);
    let [ax, ay] = [dx, dy].map(|d| d / length * thick / 2.0);
    [
        [from[0] - ax * 0.7 - ay, from[1] - ay * 0.7 + ax],
        [to[0] + ax * 0.7 - ay, to[1] + ay * 0.7 + ax],
        [to[0] + ax * 0.7 + ay, to[1] + ay * 0.7 - ax],
        [from[0] - ax * 0.7 + ay, from[1] - ay * 0.7 - ax],
    ]
}
