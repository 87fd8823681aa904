//! Where a `TensorProto` keeps its elements: raw bytes, or the typed field of its element type.

use super::{DataType, TensorError, proto::TensorProto};
use bytes::Bytes;

/// Element type, shape and number of elements of a tensor.
pub(super) struct Layout {
    pub dtype: DataType,
    pub shape: Vec<usize>,
    pub count: usize,
}

impl Layout {
    /// Reads type and shape; the data is not looked at.
    pub fn of(tensor: &TensorProto) -> Result<Layout, TensorError> {
        if tensor.segment.is_some() {
            return Err(TensorError::Segmented);
        }
        let dtype = DataType::from_code(tensor.data_type.unwrap_or(0));
        if dtype.bits().is_none() && dtype != STRING {
            return Err(TensorError::UnknownType { dtype });
        }
        let mut shape = Vec::with_capacity(tensor.dims.len());
        for &size in &tensor.dims {
            let size = usize::try_from(size).map_err(|_| TensorError::Dimension {
                dims: tensor.dims.clone(),
            })?;
            shape.push(size);
        }
        let count = count(&shape)?;
        Ok(Layout {
            dtype,
            shape,
            count,
        })
    }

    /// Bytes of the elements in row-major order; for strings an error.
    pub fn byte_len(&self) -> Result<usize, TensorError> {
        byte_len(self.dtype, &self.shape)
    }

    fn length_error(&self, field: &'static str, found: usize, expected: usize) -> TensorError {
        TensorError::Length {
            field,
            found,
            expected,
            dtype: self.dtype,
            shape: self.shape.clone(),
        }
    }
}

/// Strings: the one type whose elements are no bytes of fixed size.
const STRING: DataType = DataType::Other(super::proto::tensor_proto::DataType::String as i32);

/// The product of the sizes in `shape`.
pub(super) fn count(shape: &[usize]) -> Result<usize, TensorError> {
    let count = shape
        .iter()
        .try_fold(1_usize, |n, &size| n.checked_mul(size));
    count.ok_or_else(|| TensorError::TooLarge {
        shape: shape.to_vec(),
    })
}

/// Bytes of a tensor of this type and shape.
pub(super) fn byte_len(dtype: DataType, shape: &[usize]) -> Result<usize, TensorError> {
    let bits = dtype.bits().ok_or(TensorError::NoBytes { dtype })?;
    let bits = count(shape)?.checked_mul(bits);
    let bits = bits.ok_or_else(|| TensorError::TooLarge {
        shape: shape.to_vec(),
    })?;
    Ok(bits.div_ceil(8))
}

/// Checks that the data of `tensor` is as long as its type and shape say, without converting it.
///
/// # Errors
/// As [`super::Tensor::from_proto`], but for single values outside the element type; strings pass.
pub(super) fn check(tensor: &TensorProto) -> Result<(), TensorError> {
    let layout = Layout::of(tensor)?;
    let (field, found, expected) = if layout.dtype == STRING {
        ("string_data", tensor.string_data.len(), layout.count)
    } else if let Some(raw) = &tensor.raw_data {
        if typed_len(tensor) > 0 {
            return Err(TensorError::TwoStorages);
        }
        ("raw_data", raw.len(), layout.byte_len()?)
    } else {
        typed_field(tensor, &layout)?
    };
    if found == expected {
        Ok(())
    } else {
        Err(layout.length_error(field, found, expected))
    }
}

fn typed_len(tensor: &TensorProto) -> usize {
    tensor.float_data.len()
        + tensor.int32_data.len()
        + tensor.int64_data.len()
        + tensor.double_data.len()
        + tensor.uint64_data.len()
        + tensor.string_data.len()
}

const COMPLEX64: DataType = DataType::Other(14);
const COMPLEX128: DataType = DataType::Other(15);

/// The typed field that holds the elements of this type: name, entries found, entries expected.
fn typed_field(
    tensor: &TensorProto,
    layout: &Layout,
) -> Result<(&'static str, usize, usize), TensorError> {
    let n = layout.count;
    let bytes = layout.byte_len()?;
    Ok(match layout.dtype {
        DataType::Float => ("float_data", tensor.float_data.len(), n),
        COMPLEX64 => ("float_data", tensor.float_data.len(), bytes / 4),
        DataType::Double => ("double_data", tensor.double_data.len(), n),
        COMPLEX128 => ("double_data", tensor.double_data.len(), bytes / 8),
        DataType::Int64 => ("int64_data", tensor.int64_data.len(), n),
        DataType::Uint32 | DataType::Uint64 => ("uint64_data", tensor.uint64_data.len(), n),
        // Types of 2 and 4 bits are packed, one entry per byte; those of 6 bits are not.
        _ if layout.dtype.bits() == Some(6) => ("int32_data", tensor.int32_data.len(), n),
        _ => ("int32_data", tensor.int32_data.len(), n.min(bytes)),
    })
}

/// The elements of `tensor`, little-endian and row-major. Raw data is shared, not copied.
pub(super) fn bytes(tensor: &TensorProto, dtype: DataType) -> Result<Bytes, TensorError> {
    check(tensor)?;
    if let Some(raw) = &tensor.raw_data {
        return Ok(raw.clone());
    }
    if dtype.bits() == Some(6) {
        return Err(TensorError::NoBytes { dtype });
    }
    Ok(Bytes::from(match dtype {
        DataType::Float | COMPLEX64 => pack(&tensor.float_data, |v| v.to_le_bytes()),
        DataType::Double | COMPLEX128 => pack(&tensor.double_data, |v| v.to_le_bytes()),
        DataType::Int64 => pack(&tensor.int64_data, |v| v.to_le_bytes()),
        DataType::Uint64 => pack(&tensor.uint64_data, |v| v.to_le_bytes()),
        DataType::Uint32 => {
            let values = narrow::<_, u32>(&tensor.uint64_data, dtype)?;
            pack(&values, |v| v.to_le_bytes())
        }
        DataType::Int32 => pack(&tensor.int32_data, |v| v.to_le_bytes()),
        DataType::Int16 => {
            let values = narrow::<_, i16>(&tensor.int32_data, dtype)?;
            pack(&values, |v| v.to_le_bytes())
        }
        DataType::Int8 => {
            let values = narrow::<_, i8>(&tensor.int32_data, dtype)?;
            pack(&values, |v| v.to_le_bytes())
        }
        DataType::Uint16 | DataType::Float16 | DataType::Bfloat16 => {
            let values = narrow::<_, u16>(&tensor.int32_data, dtype)?;
            pack(&values, |v| v.to_le_bytes())
        }
        DataType::Uint8 | DataType::Bool | DataType::Other(_) => {
            narrow::<_, u8>(&tensor.int32_data, dtype)?
        }
    }))
}

fn pack<T: Copy, const N: usize>(values: &[T], bytes: impl Fn(T) -> [u8; N]) -> Vec<u8> {
    values.iter().flat_map(|v| bytes(*v)).collect()
}

/// Typed fields are wider than the elements that they hold: a value that does not fit is refused.
fn narrow<From, To>(values: &[From], dtype: DataType) -> Result<Vec<To>, TensorError>
where
    From: Copy + std::fmt::Display + TryInto<To>,
{
    let narrow = |v: &From| {
        (*v).try_into().map_err(|_| TensorError::Value {
            value: v.to_string(),
            dtype,
        })
    };
    values.iter().map(narrow).collect()
}
