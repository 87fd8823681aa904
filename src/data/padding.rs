//! Positions that only fill samples up to one length.
//!
//! Texts of other lengths are padded, and an input tells which positions are text. What the model
//! makes at the others is of no use to anybody, so that neither statistics nor comparisons are to
//! count it.

use crate::data::Batch;
use crate::onnx::{DataType, Tensor};

/// What exporters call the input that is 1 where there is a token and 0 where there is none.
const NAMES: [&str; 2] = ["attention_mask", "input_mask"];

/// Which positions of each sample of a batch count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Padding {
    /// Positions of a sample.
    length: usize,
    /// Sample after sample, whether each of its positions counts.
    counts: Vec<bool>,
}

impl Padding {
    /// That of a batch; `None` where no input tells of any.
    pub fn of(batch: &Batch) -> Option<Self> {
        let (_, mask) = batch.iter().find(|(name, _)| is_mask(name))?;
        let &[samples, length] = mask.shape.as_slice() else {
            return None;
        };
        let values = numbers(mask)?;
        let is_told = values.iter().all(|value| [0.0, 1.0].contains(value));
        let counts: Vec<bool> = values.iter().map(|&value| value > 0.0).collect();
        let has_any = counts
            .chunks(length.max(1))
            .all(|sample| sample.contains(&true));
        let is_padded = is_told && has_any && counts.contains(&false) && samples > 0;
        is_padded.then_some(Padding { length, counts })
    }

    /// Samples of the batch.
    pub fn samples(&self) -> usize {
        self.counts.len() / self.length.max(1)
    }

    /// Whether the second axis of a tensor of this shape is that of the positions, as far as
    /// lengths tell.
    pub fn is_along(&self, shape: &[usize]) -> bool {
        shape.get(1) == Some(&self.length)
    }

    /// Positions of a sample.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Whether a position of a sample counts.
    pub fn has(&self, sample: usize, position: usize) -> bool {
        let at = sample.saturating_mul(self.length).saturating_add(position);
        position < self.length && self.counts.get(at).copied().unwrap_or(false)
    }

    /// Share of the positions that count.
    pub fn share(&self) -> f64 {
        let counted = self.counts.iter().filter(|&&counts| counts).count();
        counted as f64 / self.counts.len().max(1) as f64
    }

    /// Puts `filler` where a tensor of this shape, of vectors of each position of each sample, has
    /// what does not count.
    pub fn fill(&self, values: &mut [f64], shape: &[usize], filler: f64) {
        let fits = shape.first() == Some(&self.samples()) && self.is_along(shape);
        // Of two axes the second is that of classes, of which there may be as many by chance.
        let fits = fits && shape.len() > 2;
        let inner = values.len() / self.counts.len().max(1);
        if !fits || inner == 0 {
            return;
        }
        for (part, _) in values
            .chunks_mut(inner)
            .zip(&self.counts)
            .filter(|(_, counts)| !**counts)
        {
            part.fill(filler);
        }
    }
}

/// Whether an input of this name tells which positions count.
pub(crate) fn is_mask(name: &str) -> bool {
    let name = name.to_lowercase();
    NAMES.iter().any(|known| name.contains(known))
}

fn numbers(mask: &Tensor) -> Option<Vec<f64>> {
    match mask.dtype {
        DataType::Bool => Some(mask.bytes.iter().map(|&byte| f64::from(byte)).collect()),
        DataType::Int32 | DataType::Int64 => {
            let values = mask.to_i64().ok()?;
            Some(values.into_iter().map(|value| value as f64).collect())
        }
        _ => Some(mask.to_f64().ok()?.into_iter().collect()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn batch(name: &str, shape: &[usize], values: &[i64]) -> Batch {
        let ids = Tensor::from_i64(shape, &vec![7; values.len()]).unwrap();
        let mask = Tensor::from_i64(shape, values).unwrap();
        vec![("input_ids".to_owned(), ids), (name.to_owned(), mask)]
    }

    #[test]
    fn a_mask_tells_what_counts() {
        let found = Padding::of(&batch("attention_mask", &[2, 3], &[1, 1, 0, 1, 0, 0])).unwrap();
        assert_eq!(
            (found.samples(), found.length(), found.share()),
            (2, 3, 0.5)
        );
        assert!(found.has(0, 1) && !found.has(0, 2) && !found.has(1, 1) && !found.has(2, 0));
        let mut values: Vec<f64> = (0..12).map(f64::from).collect();
        found.fill(&mut values, &[2, 3, 2], -1.0);
        assert_eq!(
            values,
            [0., 1., 2., 3., -1., -1., 6., 7., -1., -1., -1., -1.]
        );
        // Another axis of that length.
        let mut values = vec![0.0; 6];
        found.fill(&mut values, &[3, 2], -1.0);
        assert_eq!(values, [0.0; 6]);
        found.fill(&mut values, &[2, 3], -1.0);
        assert_eq!(values, [0.0; 6]);
    }

    #[test]
    fn other_inputs_tell_nothing() {
        let padded = [1, 1, 0, 1, 0, 0];
        assert_eq!(
            Padding::of(&batch("bool_masked_pos", &[2, 3], &padded)),
            None
        );
        assert_eq!(
            Padding::of(&batch("attention_mask", &[1, 2, 3], &padded)),
            None
        );
        assert_eq!(
            Padding::of(&batch("attention_mask", &[2, 3], &[1; 6])),
            None
        );
        // A sample of nothing, and numbers of another kind.
        assert_eq!(
            Padding::of(&batch("attention_mask", &[2, 3], &[1, 1, 0, 0, 0, 0])),
            None
        );
        assert_eq!(
            Padding::of(&batch("attention_mask", &[2, 3], &[1, 2, 0, 1, 0, 0])),
            None
        );
    }
}
