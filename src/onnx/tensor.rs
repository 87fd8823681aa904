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
mod tests {
    use super::*;
    use ndarray::Axis;
    use proptest::prelude::*;

    fn typed(dtype: DataType, dims: &[i64]) -> TensorProto {
        TensorProto {
            name: Some("t".to_owned()),
            dims: dims.to_vec(),
            data_type: Some(dtype.code()),
            ..TensorProto::default()
        }
    }

    fn ints(dtype: DataType, values: &[i32]) -> Result<Tensor, TensorError> {
        let mut proto = typed(dtype, &[values.len() as i64]);
        proto.int32_data = values.to_vec();
        Tensor::from_proto(&proto)
    }

    #[test]
    fn typed_fields_are_read_and_come_back_as_raw_data() {
        let mut tensors = vec![
            ints(DataType::Int32, &[i32::MIN, 7]).unwrap(),
            ints(DataType::Int16, &[-300, 300]).unwrap(),
            ints(DataType::Int8, &[-128, 127]).unwrap(),
            ints(DataType::Uint16, &[0, 65535]).unwrap(),
            ints(DataType::Uint8, &[0, 255]).unwrap(),
            ints(DataType::Bool, &[0, 1]).unwrap(),
        ];
        let mut int64 = typed(DataType::Int64, &[2]);
        int64.int64_data = vec![i64::MIN, 1];
        let mut uint32 = typed(DataType::Uint32, &[2]);
        uint32.uint64_data = vec![0, u64::from(u32::MAX)];
        tensors.extend([&int64, &uint32].map(|proto| Tensor::from_proto(proto).unwrap()));
        let values: Vec<_> = tensors.iter().map(|t| t.to_i64().unwrap()).collect();
        let expected: [[i64; 2]; 8] = [
            [i32::MIN.into(), 7],
            [-300, 300],
            [-128, 127],
            [0, 65535],
            [0, 255],
            [0, 1],
            [i64::MIN, 1],
            [0, u32::MAX.into()],
        ];
        assert_eq!(values, expected);
        for tensor in tensors {
            let proto = tensor.to_proto("t");
            assert_eq!(Tensor::from_proto(&proto).unwrap(), tensor);
        }
    }

    #[test]
    fn float_fields_are_read() {
        let mut float = typed(DataType::Float, &[2, 1]);
        float.float_data = vec![1.5, -2.0];
        let mut double = typed(DataType::Double, &[2, 1]);
        double.double_data = vec![1.5, -2.0];
        let bits = |bits: [u16; 2]| bits.map(i32::from).to_vec();
        let mut half = typed(DataType::Float16, &[2, 1]);
        half.int32_data = bits([f16::from_f32(1.5), f16::from_f32(-2.0)].map(f16::to_bits));
        let mut brain = typed(DataType::Bfloat16, &[2, 1]);
        brain.int32_data = bits([bf16::from_f32(1.5), bf16::from_f32(-2.0)].map(bf16::to_bits));
        for proto in [float, double, half, brain] {
            let tensor = Tensor::from_proto(&proto).unwrap();
            let array = ndarray::array![[1.5], [-2.0]].into_dyn();
            assert_eq!(tensor.to_f64().unwrap(), array);
            assert_eq!(tensor.to_f32().unwrap(), array.mapv(|v| v as f32));
            assert_eq!(Tensor::from_f64(tensor.dtype, &array).unwrap(), tensor);
        }
    }

    #[test]
    fn packed_types_are_carried_through() {
        let int4 = DataType::from_code(22);
        let mut proto = typed(int4, &[3]);
        proto.int32_data = vec![0x21, 0x03];
        let tensor = Tensor::from_proto(&proto).unwrap();
        assert_eq!(tensor.bytes, [0x21, 0x03].as_slice());
        assert!(tensor.to_f64().is_err());
        assert_eq!(
            tensor.take(0, &[0]),
            Err(TensorError::NoBytes { dtype: int4 })
        );
    }

    #[test]
    fn wrong_data_is_refused_by_name() {
        let error = |proto: &TensorProto| Tensor::from_proto(proto).unwrap_err().to_string();
        assert!(error(&typed(DataType::Float, &[2, -1])).contains("tensor 't': shape [2, -1]"));
        assert!(
            error(&typed(DataType::Float, &[2])).contains("float_data holds 0 entries, expected 2")
        );
        let huge = typed(DataType::Double, &[i64::MAX, i64::MAX]);
        assert!(error(&huge).contains("more elements"));
        assert!(error(&typed(DataType::Double, &[i64::MAX])).contains("more elements"));
        assert!(error(&typed(DataType::Other(0), &[1])).contains("type is undefined"));
        assert!(error(&typed(DataType::Other(99), &[1])).contains("type number 99"));
        assert!(error(&typed(DataType::Other(8), &[0])).contains("string"));
        let mut both = typed(DataType::Float, &[1]);
        (both.float_data, both.raw_data) = (vec![1.0], Some(Bytes::from_static(&[0; 4])));
        assert!(error(&both).contains("both"));
        let text = ints(DataType::Int8, &[128]).unwrap_err().to_string();
        assert!(text.contains("value 128 is outside int8"), "{text}");
    }

    #[test]
    fn conversion_rounds_to_nearest_and_refuses_overflow() {
        let array = ndarray::arr1(&[0.1, f64::INFINITY]).into_dyn();
        for (dtype, expected) in [
            (DataType::Float, f64::from(0.1_f32)),
            (DataType::Float16, f16::from_f64(0.1).to_f64()),
            (DataType::Bfloat16, bf16::from_f64(0.1).to_f64()),
            (DataType::Double, 0.1),
        ] {
            let tensor = Tensor::from_f64(dtype, &array).unwrap();
            assert_eq!(
                tensor.to_f64().unwrap().as_slice().unwrap(),
                [expected, f64::INFINITY]
            );
        }
        let large = ndarray::arr1(&[1e5]).into_dyn();
        let text = Tensor::from_f64(DataType::Float16, &large)
            .unwrap_err()
            .to_string();
        assert_eq!(text, "value 100000 is outside float16");
        assert!(Tensor::from_f64(DataType::Int8, &large).is_err());
    }

    #[test]
    fn from_f64_follows_the_order_of_axes() {
        let array = ndarray::array![[1.0, 2.0], [3.0, 4.0]];
        let turned = array.t().to_owned().into_dyn();
        let tensor = Tensor::from_f64(DataType::Double, &array.reversed_axes().into_dyn());
        assert_eq!(tensor.unwrap().to_f64().unwrap(), turned);
    }

    #[test]
    fn integers_beyond_i64_and_hand_made_tensors_are_refused() {
        let mut proto = typed(DataType::Uint64, &[1]);
        proto.uint64_data = vec![u64::MAX];
        assert!(Tensor::from_proto(&proto).unwrap().to_i64().is_err());
        assert!(Tensor::from_f32(&[2], vec![1.0]).is_err());
        assert!(Tensor::from_f32(&[1], vec![1.0]).unwrap().to_i64().is_err());
        let short = Tensor {
            dtype: DataType::Float,
            shape: vec![2],
            bytes: Bytes::from_static(&[0; 7]),
        };
        assert!(short.to_f32().is_err() && short.take(0, &[0]).is_err());
    }

    #[test]
    fn take_is_bounds_checked_and_takes_nothing_from_nothing() {
        let tensor = Tensor::zeros(DataType::Float, &[2, 3]).unwrap();
        let axis = TensorError::Axis { axis: 2, rank: 2 };
        assert_eq!(tensor.take(2, &[]), Err(axis));
        let position = TensorError::Position {
            position: 3,
            axis: 1,
            size: 3,
        };
        assert_eq!(tensor.take(1, &[0, 3]), Err(position));
        assert_eq!(tensor.take(1, &[]).unwrap().shape, [2, 0]);
        let huge = [0, usize::MAX, usize::MAX];
        let empty = Tensor::zeros(DataType::Float, &huge).unwrap();
        assert_eq!(empty.take(0, &[]).unwrap().shape, huge);
        assert!(empty.is_empty() && tensor.len() == 6);
    }

    proptest! {
        #[test]
        fn take_equals_select(
            shape in prop::collection::vec(0_usize..5, 1..5),
            axis in any::<prop::sample::Index>(),
            keep in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
            code in prop::sample::select(vec![1, 3, 7, 9, 10]),
        ) {
            let count: usize = shape.iter().product();
            let axis = axis.index(shape.len());
            let keep: Vec<_> = match shape[axis] {
                0 => Vec::new(),
                size => keep.iter().map(|i| i.index(size)).collect(),
            };
            let dtype = DataType::from_code(code);
            let length = count * dtype.size().unwrap();
            let bytes: Vec<u8> = match dtype {
                DataType::Bool => (0..length).map(|i| (i % 2) as u8).collect(),
                _ => (0..length).map(|i| (i % 100) as u8).collect(),
            };
            let tensor = Tensor { dtype, shape, bytes: Bytes::from(bytes) };
            let selected = tensor.to_f64().unwrap().select(Axis(axis), &keep);
            let taken = tensor.take(axis, &keep).unwrap();
            prop_assert_eq!(taken.to_f64().unwrap(), selected);
        }
    }
}
