//! Which positions a tap hands out.

use faer::Mat;
use faer::traits::ComplexField;
use rand::SeedableRng;
use rand::seq::index;
use rand_chacha::ChaCha8Rng;

use crate::data::Padding;
use crate::onnx::Tensor;
use crate::taps::Placed;

/// Positions along the axis that a tap gathers.
pub(crate) struct Positions {
    /// As the model is fed them.
    pub tensor: Tensor,
    pub at: Vec<usize>,
}

impl Positions {
    fn new(at: Vec<usize>) -> Option<Self> {
        let all: Option<Vec<i64>> = at.iter().map(|&at| i64::try_from(at).ok()).collect();
        let tensor = Tensor::from_i64(&[at.len()], &all?).ok()?;
        Some(Positions { tensor, at })
    }
}

/// One choice of positions for a tap.
pub(crate) struct Draw {
    /// The positions that rows stand at.
    pub places: Positions,
    /// What the rows are read from: `taps` entries per row; padding reads position 0.
    pub reads: Positions,
    /// Which of these entries are padding.
    pub padding: Vec<bool>,
    /// Which rows count, where others stand at padding of the samples.
    pub counted: Option<Counted>,
}

/// For each sample as many of its rows, which are the same ones again where there are fewer.
pub(crate) struct Counted {
    per_sample: usize,
    /// Rows of what was handed out.
    rows: Vec<usize>,
}

impl Draw {
    /// How many rows each sample has.
    pub fn per_sample(&self) -> usize {
        self.counted
            .as_ref()
            .map_or(self.places.at.len(), |counted| counted.per_sample)
    }

    /// Of the rows at all places, those that count.
    pub fn counted<T: ComplexField + Copy>(&self, all: Mat<T>) -> Mat<T> {
        match &self.counted {
            Some(counted) if counted.rows.iter().all(|&row| row < all.nrows()) => {
                Mat::from_fn(counted.rows.len(), all.ncols(), |row, column| {
                    all[(counted.rows[row], column)]
                })
            }
            _ => all,
        }
    }
}

impl Placed {
    /// Draws all of so many elements of a channel.
    pub fn draw_elements(&self, elements: usize) -> Option<Draw> {
        let all = || Positions::new((0..elements).collect());
        Some(Draw {
            places: all()?,
            reads: all()?,
            padding: vec![false; elements],
            counted: None,
        })
    }

    /// Draws `rows` positions without replacement, all where there are no more. Where samples are
    /// padded, so many more that about as many count in each sample.
    pub fn draw(&self, rows: usize, seed: u64, padding: Option<&Padding>) -> Option<Draw> {
        let padding = padding.filter(|padding| self.is_padded(padding));
        let inner = padding.map_or(1, |padding| self.places / padding.length().max(1));
        let counts = |place: &usize| {
            padding.is_none_or(|padding| {
                (0..padding.samples()).any(|sample| padding.has(sample, place / inner))
            })
        };
        let all = (0..self.places).filter(|place| self.is_whole || counts(place));
        let all: Vec<usize> = all.collect();
        let share = padding.map_or(1.0, Padding::share);
        let wanted = (rows as f64 / share).ceil() as usize;
        let places: Vec<usize> = if wanted >= all.len() {
            all
        } else {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let mut drawn = index::sample(&mut rng, all.len(), wanted).into_vec();
            drawn.sort_unstable();
            drawn
                .iter()
                .filter_map(|&at| all.get(at))
                .copied()
                .collect()
        };
        let counted = padding.map(|padding| {
            let rows = rows.min(places.len());
            Counted::of(padding, rows, &places, inner)
        });
        let reads: Vec<Option<usize>> = match &self.tap.window {
            Some(window) => places
                .iter()
                .flat_map(|&place| window.reads(place))
                .collect(),
            None => places.iter().copied().map(Some).collect(),
        };
        Some(Draw {
            padding: reads.iter().map(Option::is_none).collect(),
            reads: Positions::new(reads.into_iter().map(Option::unwrap_or_default).collect())?,
            places: Positions::new(places)?,
            counted,
        })
    }

    /// Whether rows stand at positions some of which are padding.
    fn is_padded(&self, padding: &Padding) -> bool {
        let is_apt = self.channels_last && self.tap.window.is_none();
        is_apt && padding.is_along(&self.shape) && self.places.is_multiple_of(padding.length())
    }
}

impl Counted {
    /// So many rows of each sample, of those at `places`, `inner` of which are at each position;
    /// all of a sample of which none counts.
    fn of(padding: &Padding, per_sample: usize, places: &[usize], inner: usize) -> Self {
        let mut rows = Vec::new();
        for sample in 0..padding.samples() {
            let own = 0..places.len();
            let counts = |row: &usize| {
                let place = places.get(*row);
                place.is_some_and(|place| padding.has(sample, place / inner.max(1)))
            };
            let mut some: Vec<usize> = own.clone().filter(counts).collect();
            if some.is_empty() {
                some = own.collect();
            }
            // Evenly, or around again.
            let step = some.len().max(per_sample);
            let place = |row: usize| row * step / per_sample.max(1) % some.len().max(1);
            let found = (0..per_sample).filter_map(|row| some.get(place(row)));
            rows.extend(found.map(|row| sample * places.len() + row));
        }
        Counted { per_sample, rows }
    }
}
