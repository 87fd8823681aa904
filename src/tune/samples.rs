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
    /// Whether two of them may be mixed: none of the inputs holds anything but numbers.
    can_mix: bool,
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
            can_mix: true,
        };
        for (number, unit) in units.enumerate() {
            let unit = unit?;
            read.names = unit.iter().map(|(name, _)| name.clone()).collect();
            for (slot, (_, tensor)) in unit.into_iter().enumerate() {
                read.can_mix &= tensor.dtype == DataType::Float;
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

    /// Some as one batch. Half of them are mixed with others, at random parts of both (Zhang et
    /// al., mixup, arXiv 1710.09412; the targets are what the original model makes of the mixture):
    /// so few samples are never the same again.
    pub fn batch(
        &mut self,
        wanted: &[usize],
        rng: Option<&mut ChaCha8Rng>,
    ) -> Result<Batch, SubgraphError> {
        let mut mixed: Vec<(usize, Option<(usize, f32)>)> = Vec::new();
        let count = self.len();
        let mut rng = rng.filter(|_| self.can_mix && count > 1);
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
                    Some((other, share)) => mixture(&own, other, *share),
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
fn mixture(one: &Tensor, other: &Tensor, share: f32) -> Vec<u8> {
    match (one.as_f32(), other.as_f32()) {
        (Ok(left), Ok(right)) if left.len() == right.len() => {
            let pairs = left.iter().zip(right.iter());
            let mixed = pairs.flat_map(|(l, r)| (share * l + (1.0 - share) * r).to_le_bytes());
            mixed.collect()
        }
        _ => one.bytes.to_vec(),
    }
}
