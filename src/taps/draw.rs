//! Which positions a tap hands out.

use rand::SeedableRng;
use rand::seq::index;
use rand_chacha::ChaCha8Rng;

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
}

impl Placed {
    /// Draws all of so many elements of a channel.
    pub fn draw_elements(&self, elements: usize) -> Option<Draw> {
        let all = || Positions::new((0..elements).collect());
        Some(Draw {
            places: all()?,
            reads: all()?,
            padding: vec![false; elements],
        })
    }

    /// Draws `rows` positions without replacement, all where there are no more.
    pub fn draw(&self, rows: usize, seed: u64) -> Option<Draw> {
        let places: Vec<usize> = if rows >= self.places {
            (0..self.places).collect()
        } else {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let mut drawn = index::sample(&mut rng, self.places, rows).into_vec();
            drawn.sort_unstable();
            drawn
        };
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
        })
    }
}
