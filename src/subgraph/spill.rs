//! Values that wait for later subgraphs: in memory up to a limit, in a temporary file beyond.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

use crate::graph::ValueId;
use crate::onnx::Tensor;

/// Per batch and key (such as a value), a tensor.
pub(crate) struct SpillCache<K = ValueId> {
    limit: u64,
    used: u64,
    items: Vec<BTreeMap<K, Item>>,
    file: Option<File>,
    end: u64,
    /// Spans of the file that are free again, by length.
    free: BTreeMap<u64, Vec<u64>>,
}

enum Item {
    Memory(Tensor),
    /// The tensor without its bytes, and where these are.
    Disk {
        head: Tensor,
        at: u64,
        length: u64,
    },
}

impl<K: Ord> SpillCache<K> {
    /// Holds at most `limit` bytes in memory.
    pub fn new(limit: u64) -> Self {
        SpillCache {
            limit,
            used: 0,
            items: Vec::new(),
            file: None,
            end: 0,
            free: BTreeMap::new(),
        }
    }

    /// Number of batches seen.
    pub fn batches(&self) -> usize {
        self.items.len()
    }

    /// Makes sure that a batch counts, even where nothing of it waits.
    pub fn open(&mut self, batch: usize) {
        if self.items.len() <= batch {
            self.items.resize_with(batch + 1, BTreeMap::new);
        }
    }

    /// Puts a value of a batch away.
    pub fn put(&mut self, batch: usize, value: K, tensor: Tensor) -> io::Result<()> {
        self.open(batch);
        let length = tensor.bytes.len() as u64;
        let item = if self.used + length <= self.limit {
            self.used += length;
            Item::Memory(tensor)
        } else {
            let at = self.write(&tensor.bytes)?;
            let bytes = bytes::Bytes::new();
            let head = Tensor { bytes, ..tensor };
            Item::Disk { head, at, length }
        };
        self.items[batch].insert(value, item);
        Ok(())
    }

    /// A value of a batch.
    pub fn get(&mut self, batch: usize, value: K) -> io::Result<Option<Tensor>> {
        let item = self.items.get(batch).and_then(|items| items.get(&value));
        match (item, &mut self.file) {
            (Some(Item::Memory(tensor)), _) => Ok(Some(tensor.clone())),
            (Some(Item::Disk { head, at, length }), Some(file)) => {
                let mut bytes = vec![0; usize::try_from(*length).map_err(io::Error::other)?];
                file.seek(SeekFrom::Start(*at))?;
                file.read_exact(&mut bytes)?;
                let bytes = bytes.into();
                Ok(Some(Tensor {
                    bytes,
                    ..head.clone()
                }))
            }
            _ => Ok(None),
        }
    }

    /// Forgets values of all batches.
    pub fn drop_values(&mut self, values: &[K]) {
        for items in &mut self.items {
            for value in values {
                match items.remove(value) {
                    Some(Item::Memory(tensor)) => self.used -= tensor.bytes.len() as u64,
                    Some(Item::Disk { at, length, .. }) => {
                        self.free.entry(length).or_default().push(at);
                    }
                    None => {}
                }
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<u64> {
        let length = bytes.len() as u64;
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(tempfile::tempfile()?),
        };
        let at = match self.free.get_mut(&length).and_then(Vec::pop) {
            Some(at) => at,
            None => {
                self.end += length;
                self.end - length
            }
        };
        file.seek(SeekFrom::Start(at))?;
        file.write_all(bytes)?;
        Ok(at)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn tensor(value: f32) -> Tensor {
        Tensor::from_f32(&[2], vec![value, -value]).unwrap()
    }

    #[test]
    fn values_come_back_from_memory_and_from_disk() {
        // Eight bytes are one of these tensors.
        let mut cache = SpillCache::new(8);
        for batch in 0..3 {
            cache.put(batch, 5, tensor(batch as f32)).unwrap();
        }
        for batch in [2, 0, 1] {
            let found = cache.get(batch, 5).unwrap();
            assert_eq!(found, Some(tensor(batch as f32)));
        }
        assert_eq!((cache.batches(), cache.end), (3, 16));
    }

    #[test]
    fn room_of_what_is_dropped_is_used_again() {
        let mut cache = SpillCache::new(0);
        cache.put(0, 1, tensor(1.0)).unwrap();
        cache.put(0, 2, tensor(2.0)).unwrap();
        cache.drop_values(&[1]);
        cache.put(0, 3, tensor(3.0)).unwrap();
        assert_eq!(cache.end, 16);
        assert_eq!(cache.get(0, 1).unwrap(), None);
        assert_eq!(cache.get(0, 2).unwrap(), Some(tensor(2.0)));
        assert_eq!(cache.get(0, 3).unwrap(), Some(tensor(3.0)));
    }
}
