//! A constant tensor as bytes, and its conversions to and from ndarray.

use super::{
    DataType, TensorError,
    proto::TensorProto,
    storage::{self, Layout},
};
use bytes::Bytes;
use half::{bf16, f16};
use ndarray::{ArrayD, IxDyn};
use std::borrow::Cow;

/// A constant tensor. `bytes` holds the elements of `shape`, row-major and little-endian.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// Element type.
    pub dtype: DataType,
    /// Sizes of the axes; empty for a scalar.
    pub shape: Vec<usize>,
    /// The elements; cheap to clone.
    pub bytes: Bytes,
}

/// Elements of `bytes` by a conversion of `N` bytes each.
fn each<const N: usize, T>(bytes: &[u8], convert: impl Fn([u8; N]) -> T) -> Vec<T> {
    let (elements, _) = bytes.as_chunks::<N>();
    elements.iter().map(|element| convert(*element)).collect()
}

/// All elements as numbers of type `$to`, or none when they are no numbers.
macro_rules! numbers {
    ($tensor:expr, $to:ty) => {{
        let bytes = &$tensor.bytes;
        match $tensor.dtype {
            DataType::Float => Some(each(bytes, |b| f32::from_le_bytes(b) as $to)),
            DataType::Double => Some(each(bytes, |b| f64::from_le_bytes(b) as $to)),
            DataType::Float16 => Some(each(bytes, |b| f16::from_le_bytes(b).to_f32() as $to)),
            DataType::Bfloat16 => Some(each(bytes, |b| bf16::from_le_bytes(b).to_f32() as $to)),
            _ => integers!($tensor, $to),
        }
    }};
}

macro_rules! integers {
    ($tensor:expr, $to:ty) => {{
        let bytes = &$tensor.bytes;
        match $tensor.dtype {
            DataType::Int8 => Some(each(bytes, |b| i8::from_le_bytes(b) as $to)),
            DataType::Int16 => Some(each(bytes, |b| i16::from_le_bytes(b) as $to)),
            DataType::Int32 => Some(each(bytes, |b| i32::from_le_bytes(b) as $to)),
            DataType::Int64 => Some(each(bytes, |b| i64::from_le_bytes(b) as $to)),
            DataType::Uint8 => Some(each(bytes, |b| u8::from_le_bytes(b) as $to)),
            DataType::Uint16 => Some(each(bytes, |b| u16::from_le_bytes(b) as $to)),
            DataType::Uint32 => Some(each(bytes, |b| u32::from_le_bytes(b) as $to)),
            DataType::Uint64 => Some(each(bytes, |b| u64::from_le_bytes(b) as $to)),
            DataType::Bool => Some(each(bytes, |b| u8::from(b != [0_u8]) as $to)),
            _ => None,
        }
    }};
}

impl Tensor {
    /// Reads a tensor from whichever field holds its data; raw data is shared, not copied.
    ///
    /// # Errors
    /// [`TensorError::Named`] with the tensor's name: a negative size, data whose length does
    /// not match the shape, a value outside the element type, a type without fixed-size bytes.
    pub fn from_proto(proto: &TensorProto) -> Result<Tensor, TensorError> {
        let read = || {
            let layout = Layout::of(proto)?;
            layout.byte_len()?;
            Ok(Tensor {
                dtype: layout.dtype,
                bytes: storage::bytes(proto, layout.dtype)?,
                shape: layout.shape,
            })
        };
        read().map_err(|error| TensorError::named(proto.name(), error))
    }

    /// A `TensorProto` of this name with the elements in `raw_data`.
    pub fn to_proto(&self, name: &str) -> TensorProto {
        let mut proto = TensorProto {
            name: Some(name.to_owned()),
            ..TensorProto::default()
        };
        self.store(&mut proto);
        proto
    }

    /// Replaces type, shape and elements of `proto`; name, documentation, metadata and the mark
    /// "external" stay.
    pub fn store(&self, proto: &mut TensorProto) {
        let old = std::mem::take(proto);
        *proto = TensorProto {
            name: old.name,
            doc_string: old.doc_string,
            metadata_props: old.metadata_props,
            data_location: old.data_location,
            // A usize beyond i64 is no size of a tensor in memory.
            dims: self.shape.iter().map(|&size| size as i64).collect(),
            data_type: Some(self.dtype.code()),
            raw_data: Some(self.bytes.clone()),
            ..TensorProto::default()
        };
    }

    /// A tensor of zeros.
    ///
    /// # Errors
    /// A type without fixed-size bytes, or a shape beyond the address space.
    pub fn zeros(dtype: DataType, shape: &[usize]) -> Result<Tensor, TensorError> {
        let length = storage::byte_len(dtype, shape)?;
        Tensor::of(dtype, shape, vec![0; length])
    }

    /// A float tensor of `values` in row-major order.
    ///
    /// # Errors
    /// The number of values is not that of the shape.
    pub fn from_f32(shape: &[usize], values: Vec<f32>) -> Result<Tensor, TensorError> {
        let bytes = if cfg!(target_endian = "little") {
            bytemuck::cast_slice(&values).to_vec()
        } else {
            values.into_iter().flat_map(f32::to_le_bytes).collect()
        };
        Tensor::of(DataType::Float, shape, bytes)
    }

    /// An int64 tensor of `values` in row-major order.
    ///
    /// # Errors
    /// The number of values is not that of the shape.
    pub fn from_i64(shape: &[usize], values: &[i64]) -> Result<Tensor, TensorError> {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Tensor::of(DataType::Int64, shape, bytes)
    }

    /// A tensor of `values`, rounded to nearest in a float type: float, double, float16, bfloat16.
    ///
    /// # Errors
    /// Another type, or a finite value that becomes infinite in the type.
    pub fn from_f64(dtype: DataType, values: &ArrayD<f64>) -> Result<Tensor, TensorError> {
        let limit = match dtype {
            DataType::Float => |v: f64| (v as f32).is_finite(),
            DataType::Double => |_: f64| true,
            DataType::Float16 => |v: f64| f16::from_f64(v).is_finite(),
            DataType::Bfloat16 => |v: f64| bf16::from_f64(v).is_finite(),
            _ => {
                return Err(TensorError::NotNumbers {
                    dtype,
                    wanted: "a float type",
                });
            }
        };
        if let Some(value) = values.iter().find(|v| v.is_finite() && !limit(**v)) {
            let value = value.to_string();
            return Err(TensorError::Value { value, dtype });
        }
        let values_in_order = values.iter();
        let bytes = match dtype {
            DataType::Float => values_in_order
                .flat_map(|v| (*v as f32).to_le_bytes())
                .collect(),
            DataType::Float16 => values_in_order
                .flat_map(|v| f16::from_f64(*v).to_le_bytes())
                .collect(),
            DataType::Bfloat16 => values_in_order
                .flat_map(|v| bf16::from_f64(*v).to_le_bytes())
                .collect(),
            _ => values_in_order.flat_map(|v| v.to_le_bytes()).collect(),
        };
        Tensor::of(dtype, values.shape(), bytes)
    }

    fn of(dtype: DataType, shape: &[usize], bytes: Vec<u8>) -> Result<Tensor, TensorError> {
        let tensor = Tensor {
            dtype,
            shape: shape.to_vec(),
            bytes: Bytes::from(bytes),
        };
        tensor.check_length()?;
        Ok(tensor)
    }

    /// The fields are public: a tensor put together by hand may hold too much or too little.
    fn check_length(&self) -> Result<(), TensorError> {
        let expected = storage::byte_len(self.dtype, &self.shape)?;
        if self.bytes.len() == expected {
            return Ok(());
        }
        Err(TensorError::Length {
            field: "its bytes",
            found: self.bytes.len(),
            expected,
            dtype: self.dtype,
            shape: self.shape.clone(),
        })
    }

    fn array<T>(&self, values: Option<Vec<T>>) -> Result<ArrayD<T>, TensorError> {
        self.check_length()?;
        let values = values.ok_or(TensorError::NotNumbers {
            dtype: self.dtype,
            wanted: "a number type of at least 8 bits",
        })?;
        ArrayD::from_shape_vec(IxDyn(&self.shape), values).map_err(|_| TensorError::TooLarge {
            shape: self.shape.clone(),
        })
    }

    /// The elements as f64, in the shape of the tensor. 64-bit integers round beyond 2^53; bools
    /// are 0 and 1.
    ///
    /// # Errors
    /// The elements are no numbers (strings, complex, 8-bit floats, less than a byte).
    pub fn to_f64(&self) -> Result<ArrayD<f64>, TensorError> {
        self.array(numbers!(self, f64))
    }

    /// The elements as f32, in the shape of the tensor. Doubles and wide integers round.
    ///
    /// # Errors
    /// As [`Tensor::to_f64`].
    pub fn to_f32(&self) -> Result<ArrayD<f32>, TensorError> {
        self.array(numbers!(self, f32))
    }

    /// The elements as f32 in row-major order, without a copy where they are.
    ///
    /// # Errors
    /// As [`Tensor::to_f32`].
    pub(crate) fn as_f32(&self) -> Result<Cow<'_, [f32]>, TensorError> {
        let is_native = self.dtype == DataType::Float && cfg!(target_endian = "little");
        let borrowed = is_native.then(|| bytemuck::try_cast_slice(&self.bytes));
        if let Some(Ok(values)) = borrowed {
            self.check_length()?;
            return Ok(Cow::Borrowed(values));
        }
        Ok(Cow::Owned(self.to_f32()?.into_iter().collect()))
    }

    /// The elements of an integer or bool tensor, in row-major order.
    ///
    /// # Errors
    /// The type is no integer and not bool, or a uint64 is beyond i64.
    pub fn to_i64(&self) -> Result<Vec<i64>, TensorError> {
        self.check_length()?;
        let dtype = self.dtype;
        if dtype == DataType::Uint64
            && let Some(value) = each(&self.bytes, u64::from_le_bytes)
                .into_iter()
                .find(|v| i64::try_from(*v).is_err())
        {
            let value = value.to_string();
            return Err(TensorError::Value {
                value,
                dtype: DataType::Int64,
            });
        }
        let wanted = "an integer type of at least 8 bits, or bool";
        integers!(self, i64).ok_or(TensorError::NotNumbers { dtype, wanted })
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape
            .iter()
            .fold(1, |n: usize, &size| n.saturating_mul(size))
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The positions `keep` along `axis`, in that order; a position may repeat. Works for every
    /// type of whole bytes.
    ///
    /// # Errors
    /// No such axis, a position beyond it, or a type of less than a byte.
    pub fn take(&self, axis: usize, keep: &[usize]) -> Result<Tensor, TensorError> {
        self.check_length()?;
        let dtype = self.dtype;
        let element = dtype.size().ok_or(TensorError::NoBytes { dtype })?;
        let rank = self.shape.len();
        let &size = self
            .shape
            .get(axis)
            .ok_or(TensorError::Axis { axis, rank })?;
        if let Some(&position) = keep.iter().find(|&&position| position >= size) {
            return Err(TensorError::Position {
                position,
                axis,
                size,
            });
        }
        let mut shape = self.shape.clone();
        shape[axis] = keep.len();
        let length = storage::byte_len(dtype, &shape)?;
        let mut bytes = Vec::with_capacity(length);
        if length > 0 {
            // No size is zero here, so the products stay below the checked `length`.
            let block = element * self.shape[axis + 1..].iter().product::<usize>();
            for outer in self.bytes.chunks_exact(size * block) {
                for &position in keep {
                    bytes.extend_from_slice(&outer[position * block..(position + 1) * block]);
                }
            }
        }
        Tensor::of(dtype, &shape, bytes)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
