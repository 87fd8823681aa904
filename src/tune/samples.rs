//! Batches of samples in ever new orders.

use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::data::{Batch, DataError};
use crate::onnx::{DataType, Tensor};
use crate::subgraph::{SpillCache, SubgraphError};
use crate::tune::TuneError;

/// The samples that are learned from, each with all inputs, one unit after the other: a unit is
/// what the model runs at least.
pub(super) struct Units {
    cache: SpillCache<usize>,
    names: Vec<String>,
    mixing: Mixing,
}

/// How two samples are made one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mixing {
    /// A part of the one is added to the rest of the other (Zhang et al., mixup, arXiv 1710.09412):
    /// all inputs are of floats.
    Blended,
    /// The last axis begins with the one and ends with the other (as in CutMix, Yun et al., arXiv
    /// 1905.04899): all inputs have one shape, as tokens and their mask do.
    Joined,
    /// Not at all.
    Never,
}

impl Mixing {
    fn of(unit: &Batch) -> Self {
        let mut tensors = unit.iter().map(|(_, tensor)| tensor);
        let shape = unit.first().map(|(_, tensor)| &tensor.shape);
        if tensors
            .clone()
            .all(|tensor| tensor.dtype == DataType::Float)
        {
            Mixing::Blended
        } else if tensors
            .all(|tensor| Some(&tensor.shape) == shape && tensor.dtype.size().is_some())
        {
            Mixing::Joined
        } else {
            Mixing::Never
        }
    }
}

impl Units {
    /// Reads all; `memory` bytes of them stay in memory.
    pub fn read(
        units: impl Iterator<Item = Result<Batch, DataError>>,
        memory: u64,
    ) -> Result<Self, TuneError> {
        let mut read = Units {
            cache: SpillCache::new(memory),
            names: Vec::new(),
            mixing: Mixing::Never,
        };
        for (number, unit) in units.enumerate() {
            let unit = unit?;
            read.names = unit.iter().map(|(name, _)| name.clone()).collect();
            read.mixing = Mixing::of(&unit);
            for (slot, (_, tensor)) in unit.into_iter().enumerate() {
                let put = read.cache.put(number, slot, tensor);
                put.map_err(SubgraphError::from)?;
            }
        }
        Ok(read)
    }

    pub fn len(&self) -> usize {
        self.cache.batches()
    }

    /// All in a new order.
    pub fn shuffled(&self, rng: &mut ChaCha8Rng) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.len()).collect();
        order.shuffle(rng);
        order
    }

    /// Some as one batch. Half of them are mixed with others, at random parts of both, so that few
    /// samples are never the same again: the targets are what the original model makes of mixtures.
    pub fn batch(
        &mut self,
        wanted: &[usize],
        rng: Option<&mut ChaCha8Rng>,
    ) -> Result<Batch, SubgraphError> {
        let mut mixed: Vec<(usize, Option<(usize, f32)>)> = Vec::new();
        let count = self.len();
        let mut rng = rng.filter(|_| self.mixing != Mixing::Never && count > 1);
        for &unit in wanted {
            let other = rng.as_mut().and_then(|rng| {
                let other = (rng.random_range(0..count), rng.random::<f32>());
                rng.random::<bool>().then_some(other)
            });
            mixed.push((unit, other));
        }
        let mut batch = Batch::new();
        for (slot, name) in self.names.iter().enumerate() {
            let mut joined: Option<(Tensor, Vec<u8>)> = None;
            for &(unit, other) in &mixed {
                let Some(own) = self.cache.get(unit, slot)? else {
                    continue;
                };
                let other = match other {
                    Some((other, share)) => self.cache.get(other, slot)?.map(|t| (t, share)),
                    None => None,
                };
                let bytes = match &other {
                    Some((other, share)) => match self.mixing {
                        Mixing::Blended => blended(&own, other, *share),
                        Mixing::Joined => joined_parts(&own, other, *share),
                        Mixing::Never => own.bytes.to_vec(),
                    },
                    None => own.bytes.to_vec(),
                };
                match &mut joined {
                    Some((whole, all)) => {
                        all.extend(bytes);
                        if let (Some(length), Some(more)) =
                            (whole.shape.first_mut(), own.shape.first())
                        {
                            *length += more;
                        }
                    }
                    None => joined = Some((own, bytes)),
                }
            }
            if let Some((whole, bytes)) = joined {
                let bytes = bytes.into();
                batch.push((name.clone(), Tensor { bytes, ..whole }));
            }
        }
        Ok(batch)
    }
}

/// `share` of one tensor of floats and the rest of another of the same shape.
fn blended(one: &Tensor, other: &Tensor, share: f32) -> Vec<u8> {
    match (one.as_f32(), other.as_f32()) {
        (Ok(left), Ok(right)) if left.len() == right.len() => {
            let pairs = left.iter().zip(right.iter());
            let mixed = pairs.flat_map(|(l, r)| (share * l + (1.0 - share) * r).to_le_bytes());
            mixed.collect()
        }
        _ => one.bytes.to_vec(),
    }
}

/// Along the last axis `share` of one tensor, then the rest of another of the same shape.
fn joined_parts(one: &Tensor, other: &Tensor, share: f32) -> Vec<u8> {
    let length = one.shape.last().copied().unwrap_or(0);
    let size = one.dtype.size().unwrap_or(0);
    let own = (share * length as f32) as usize * size;
    let (row, mut joined) = ((length * size).max(1), one.bytes.to_vec());
    for (to, from) in joined.chunks_mut(row).zip(other.bytes.chunks(row)) {
        if let (Some(to), Some(from)) = (to.get_mut(own..), from.get(own..))
            && to.len() == from.len()
        {
            to.copy_from_slice(from);
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn floats_are_blended_and_tokens_joined() {
        let one = Tensor::from_f32(&[1, 2], vec![1.0, 2.0]).unwrap();
        let other = Tensor::from_f32(&[1, 2], vec![5.0, -2.0]).unwrap();
        let expected: Vec<u8> = [4.0_f32, -1.0]
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect();
        assert_eq!(blended(&one, &other, 0.25), expected);
        let one = Tensor::from_i64(&[2, 2], &[1, 2, 3, 4]).unwrap();
        let other = Tensor::from_i64(&[2, 2], &[5, 6, 7, 8]).unwrap();
        let expected = Tensor::from_i64(&[2, 2], &[1, 6, 3, 8]).unwrap();
        assert_eq!(joined_parts(&one, &other, 0.5), expected.bytes.to_vec());
    }

    #[test]
    fn what_cannot_be_mixed_is_left() {
        let floats = Tensor::from_f32(&[1, 2], vec![0.0; 2]).unwrap();
        let tokens = |length| Tensor::from_i64(&[1, length], &vec![0; length]).unwrap();
        let unit = |tensors: &[&Tensor]| -> Batch {
            tensors
                .iter()
                .map(|&tensor| ("x".to_owned(), tensor.clone()))
                .collect()
        };
        assert_eq!(Mixing::of(&unit(&[&floats])), Mixing::Blended);
        assert_eq!(Mixing::of(&unit(&[&tokens(2), &floats])), Mixing::Joined);
        assert_eq!(Mixing::of(&unit(&[&tokens(3), &floats])), Mixing::Never);
    }
}
