//! Elements of a tensor by where they were made.

use crate::groups::Taken;

/// Consecutive indexes, each so many positions behind the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    length: usize,
    stride: usize,
}

/// For each element of a tensor, its position along the axis along which a weight made it: a sum
/// over the element's indexes, which nodes that only move elements carry along.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Positions {
    /// The position at the first index of every axis.
    pub first: usize,
    /// Per axis, the runs that its index counts, the outermost first.
    axes: Vec<Vec<Run>>,
}

impl Positions {
    /// Of a tensor that a weight makes along `axis`.
    pub fn made(shape: &[usize], axis: usize) -> Self {
        let runs = shape.iter().enumerate().map(|(own, &length)| {
            let stride = usize::from(own == axis);
            vec![Run { length, stride }]
        });
        Positions {
            first: 0,
            axes: runs.collect(),
        }
    }

    /// The same elements in the same order under another shape; `None` where an axis ends within a
    /// run that cannot be told in two.
    pub fn reshaped(&self, shape: &[usize]) -> Option<Self> {
        let mut left = joined(self.axes.iter().flatten().copied()).into_iter();
        let mut rest: Option<Run> = None;
        let mut axes = Vec::new();
        for &length in shape {
            let (mut runs, mut wanted) = (Vec::new(), length);
            while wanted > 1 {
                let run = rest.take().or_else(|| left.next())?;
                if wanted.is_multiple_of(run.length) {
                    wanted /= run.length;
                    runs.push(run);
                } else if run.length.is_multiple_of(wanted) {
                    let inner = run.length / wanted;
                    runs.push(Run {
                        length: wanted,
                        stride: run.stride.checked_mul(inner)?,
                    });
                    rest = Some(Run {
                        length: inner,
                        ..run
                    });
                    wanted = 1;
                } else {
                    return None;
                }
            }
            axes.push(runs);
        }
        let first = self.first;
        (rest.is_none() && left.next().is_none()).then_some(Positions { first, axes })
    }

    /// Output axis `i` is axis `perm[i]`.
    pub fn transposed(&self, perm: &[usize]) -> Option<Self> {
        let axes = perm.iter().map(|&axis| self.axes.get(axis).cloned());
        Some(Positions {
            first: self.first,
            axes: axes.collect::<Option<_>>()?,
        })
    }

    /// Consecutive indexes of one axis, which may be dropped.
    pub fn taken(&self, taken: Taken) -> Option<Self> {
        let mut axes = self.axes.clone();
        let &[run] = axes.get(taken.axis)?.as_slice() else {
            return None;
        };
        let first = taken
            .first
            .checked_mul(run.stride)?
            .checked_add(self.first)?;
        if taken.is_dropped {
            axes.remove(taken.axis);
        } else {
            let length = taken.count;
            axes[taken.axis] = vec![Run { length, ..run }];
        }
        Some(Positions { first, axes })
    }

    /// Of a product of stacks of matrices, whose columns are those of the second, this one.
    pub fn multiplied(&self, shape: &[usize]) -> Option<Self> {
        let (rank, own) = (shape.len(), self.axes.len());
        let rows = rank.checked_sub(2)?;
        let axis = |axis: usize| -> Option<Vec<Run>> {
            let length = *shape.get(axis)?;
            let still = vec![Run { length, stride: 0 }];
            let source = (own + axis).checked_sub(rank);
            let runs = source.and_then(|source| self.axes.get(source));
            match runs {
                Some(runs) if axis != rows => {
                    let is_whole = runs.iter().map(|run| run.length).product::<usize>() == length;
                    is_whole.then(|| runs.clone())
                }
                _ => Some(still),
            }
        };
        // One column is a sum over the rows, which must be of the same position.
        if !self.is_still(own.checked_sub(2)?) {
            return None;
        }
        Some(Positions {
            first: self.first,
            axes: (0..rank).map(axis).collect::<Option<_>>()?,
        })
    }

    /// How far each index of an axis lies behind the first.
    pub fn along(&self, axis: usize) -> Option<Vec<usize>> {
        let mut found = vec![0];
        for run in self.axes.get(axis)? {
            let before = found.iter();
            let with = |&sum: &usize| (0..run.length).map(move |index| sum + index * run.stride);
            found = before.flat_map(with).collect();
        }
        Some(found)
    }

    /// The position at each index of an axis; `None` where it depends on others too.
    pub fn all_along(&self, axis: usize) -> Option<Vec<usize>> {
        let along = self.along(axis)?.into_iter();
        let all = along.map(|behind| self.first + behind);
        self.is_along(&[axis]).then(|| all.collect())
    }

    /// Whether the position depends on none but these axes.
    pub fn is_along(&self, axes: &[usize]) -> bool {
        let others = (0..self.axes.len()).filter(|axis| !axes.contains(axis));
        others.into_iter().all(|axis| self.is_still(axis))
    }

    fn is_still(&self, axis: usize) -> bool {
        let moves = |run: &Run| run.stride > 0 && run.length > 1;
        self.axes
            .get(axis)
            .is_none_or(|runs| !runs.iter().any(moves))
    }
}

/// The same runs, those that count on as one.
fn joined(runs: impl Iterator<Item = Run>) -> Vec<Run> {
    let mut all: Vec<Run> = Vec::new();
    for run in runs.filter(|run| run.length != 1) {
        match all.last_mut() {
            Some(last) if Some(last.stride) == run.stride.checked_mul(run.length) => {
                *last = Run {
                    length: last.length.saturating_mul(run.length),
                    stride: run.stride,
                };
            }
            _ => all.push(run),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use ndarray::{ArrayD, IxDyn};
    use proptest::prelude::*;

    /// Every element's position, by its definition.
    fn all(positions: &Positions, shape: &[usize]) -> ArrayD<usize> {
        let along: Vec<Vec<usize>> = (0..shape.len())
            .map(|axis| positions.along(axis).unwrap())
            .collect();
        ArrayD::from_shape_fn(IxDyn(shape), |at| {
            let along = (0..shape.len()).map(|axis| along[axis][at[axis]]);
            positions.first + along.sum::<usize>()
        })
    }

    /// Heads of queries, as an array of numbers moves them.
    #[test]
    fn heads_are_followed_as_numbers_are_moved() {
        let shape = [2, 5, 12];
        let start = ArrayD::from_shape_fn(IxDyn(&shape), |at| at[2]);
        let followed = Positions::made(&shape, 2);
        let (split, order) = ([2, 5, 3, 4], [0, 2, 1, 3]);
        let numbers = start.into_shape_with_order(IxDyn(&split)).unwrap();
        let numbers = numbers.permuted_axes(IxDyn(&order));
        let followed = followed.reshaped(&split).unwrap();
        let followed = followed.transposed(&order).unwrap();
        assert_eq!(all(&followed, &[2, 3, 5, 4]), numbers);
        assert!(followed.is_along(&[1, 3]));
        assert!(!followed.is_along(&[3]));
    }

    /// Queries, keys and values of one weight.
    #[test]
    fn parts_of_an_axis_are_followed() {
        let apart = Positions::made(&[2, 24], 1)
            .reshaped(&[2, 3, 2, 4])
            .unwrap();
        let taken = |first, count, is_dropped| Taken {
            axis: 1,
            first,
            count,
            is_dropped,
        };
        let keys = apart.taken(taken(1, 1, true)).unwrap();
        let at = |at: ndarray::IxDyn| 8 + 4 * at[1] + at[2];
        assert_eq!(
            all(&keys, &[2, 2, 4]),
            ArrayD::from_shape_fn(IxDyn(&[2, 2, 4]), at)
        );
        let both = apart.taken(taken(1, 2, false)).unwrap();
        let at = |at: ndarray::IxDyn| 8 + 8 * at[1] + 4 * at[2] + at[3];
        let shape = [2, 2, 2, 4];
        assert_eq!(all(&both, &shape), ArrayD::from_shape_fn(IxDyn(&shape), at));
        // An axis of heads and what is inside them has no such parts.
        let rejoined = apart.transposed(&[0, 1, 3, 2]).unwrap();
        let rejoined = rejoined.reshaped(&[2, 3, 8]).unwrap();
        assert_eq!(
            rejoined.taken(Taken {
                axis: 2,
                ..taken(0, 4, false)
            }),
            None
        );
    }

    proptest! {
        /// Whatever shapes and orders come one after the other: what is followed is so.
        #[test]
        fn reshapes_and_transposes(
            axis in 0..4usize, first in Just(vec![2, 6, 4, 3]).prop_shuffle(),
            second in Just(vec![3, 2, 12, 2]).prop_shuffle(), order in Just(vec![0, 1, 2, 3]).prop_shuffle(),
        ) {
            let numbers = ArrayD::from_shape_fn(IxDyn(&first), |at| at[axis]);
            let moved = numbers.permuted_axes(IxDyn(&order));
            let moved = moved.as_standard_layout().into_owned();
            let shape = moved.shape().to_vec();
            let followed = Positions::made(&first, axis).transposed(&order).unwrap();
            prop_assert_eq!(&all(&followed, &shape), &moved);
            if let Some(followed) = followed.reshaped(&second) {
                let moved = moved.into_shape_with_order(IxDyn(&second)).unwrap();
                prop_assert_eq!(all(&followed, &second), moved);
            }
        }
    }
}
