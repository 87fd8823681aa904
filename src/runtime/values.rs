//! Tensors into and out of ONNX Runtime.

use std::marker::PhantomData;

use bytemuck::Pod;
use bytes::Bytes;
use half::{bf16, f16};
use ort::session::SessionInputValue;
use ort::value::{DynValue, PrimitiveTensorElementType, TensorElementType, ValueType};

use super::RuntimeError;
use crate::onnx::{DataType, Tensor};

/// Calls `$function::<T>` with the Rust type of `$dtype`; booleans and what ONNX Runtime's wrapper
/// cannot carry go to `$else`.
macro_rules! by_type {
    ($dtype:expr, $function:ident($($argument:expr),*), $else:expr) => {
        match $dtype {
            DataType::Float => $function::<f32>($($argument),*),
            DataType::Double => $function::<f64>($($argument),*),
            DataType::Float16 => $function::<f16>($($argument),*),
            DataType::Bfloat16 => $function::<bf16>($($argument),*),
            DataType::Int8 => $function::<i8>($($argument),*),
            DataType::Int16 => $function::<i16>($($argument),*),
            DataType::Int32 => $function::<i32>($($argument),*),
            DataType::Int64 => $function::<i64>($($argument),*),
            DataType::Uint8 => $function::<u8>($($argument),*),
            DataType::Uint16 => $function::<u16>($($argument),*),
            DataType::Uint32 => $function::<u32>($($argument),*),
            DataType::Uint64 => $function::<u64>($($argument),*),
            other => $else(other),
        }
    };
}

const SUPPORTED: &str = "a tensor of float, integer (8 to 64 bits) or bool elements";

/// A tensor as ONNX Runtime's value. The elements are copied only where they are not aligned.
pub(super) fn feed<'t>(
    name: &str,
    tensor: &'t Tensor,
) -> Result<SessionInputValue<'t>, RuntimeError> {
    let refused = |found: String| RuntimeError::Value {
        what: "input",
        name: name.into(),
        expected: SUPPORTED.into(),
        found,
    };
    let result = by_type!(tensor.dtype, numbers(tensor), |other| match other {
        DataType::Bool => booleans(tensor),
        other => Err(other.to_string()),
    });
    result.map_err(refused)
}

fn numbers<T>(tensor: &Tensor) -> Result<SessionInputValue<'_>, String>
where
    T: Pod + PrimitiveTensorElementType + std::fmt::Debug,
{
    let Ok(elements) = bytemuck::try_cast_slice::<u8, T>(&tensor.bytes) else {
        return value(tensor, bytemuck::pod_collect_to_vec::<u8, T>(&tensor.bytes));
    };
    ort::value::TensorRef::from_array_view((tensor.shape.as_slice(), elements))
        .map(Into::into)
        .map_err(|error| error.to_string())
}

fn booleans(tensor: &Tensor) -> Result<SessionInputValue<'static>, String> {
    value(tensor, tensor.bytes.iter().map(|byte| *byte != 0).collect())
}

fn value<T>(tensor: &Tensor, elements: Vec<T>) -> Result<SessionInputValue<'static>, String>
where
    T: PrimitiveTensorElementType + std::fmt::Debug + Clone + 'static,
{
    ort::value::Tensor::from_array((tensor.shape.clone(), elements))
        .map(Into::into)
        .map_err(|error| error.to_string())
}

/// An output, whose elements stay where ONNX Runtime put them.
pub(super) fn fetch(name: &str, value: DynValue) -> Result<Tensor, RuntimeError> {
    let refused = |found: String| RuntimeError::Value {
        what: "output",
        name: name.into(),
        expected: SUPPORTED.into(),
        found,
    };
    let dtype = match value.dtype() {
        ValueType::Tensor { ty, .. } => data_type(*ty),
        _ => None,
    }
    .ok_or_else(|| refused(value.dtype().to_string()))?;
    let result = by_type!(dtype, held(value, dtype), |_| copied_booleans(&value));
    result.map_err(|error: ort::Error| refused(error.to_string()))
}

/// An output's memory, which ends with the last tensor of it.
struct Held<T> {
    value: DynValue,
    of: PhantomData<T>,
}

impl<T: Pod + PrimitiveTensorElementType> AsRef<[u8]> for Held<T> {
    fn as_ref(&self) -> &[u8] {
        let found = self.value.try_extract_tensor::<T>();
        found.map_or(&[], |(_, elements)| bytemuck::cast_slice(elements))
    }
}

fn held<T: Pod + PrimitiveTensorElementType + Send>(
    value: DynValue,
    dtype: DataType,
) -> ort::Result<Tensor> {
    let shape = value.try_extract_tensor::<T>()?.0.to_vec();
    let of = PhantomData::<T>;
    Ok(tensor(dtype, &shape, Bytes::from_owner(Held { value, of })))
}

fn copied_booleans(value: &DynValue) -> ort::Result<Tensor> {
    let (shape, elements) = value.try_extract_tensor::<bool>()?;
    let bytes: Vec<u8> = elements.iter().map(|element| u8::from(*element)).collect();
    Ok(tensor(DataType::Bool, shape, Bytes::from(bytes)))
}

fn tensor(dtype: DataType, shape: &[i64], bytes: Bytes) -> Tensor {
    Tensor {
        dtype,
        // Sizes of a value that exists are never negative.
        shape: shape
            .iter()
            .map(|size| usize::try_from(*size).unwrap_or(0))
            .collect(),
        bytes,
    }
}

/// The ONNX type of ONNX Runtime's, `None` for those that are not supported.
pub(super) fn data_type(ty: TensorElementType) -> Option<DataType> {
    Some(match ty {
        TensorElementType::Float32 => DataType::Float,
        TensorElementType::Float64 => DataType::Double,
        TensorElementType::Float16 => DataType::Float16,
        TensorElementType::Bfloat16 => DataType::Bfloat16,
        TensorElementType::Int8 => DataType::Int8,
        TensorElementType::Int16 => DataType::Int16,
        TensorElementType::Int32 => DataType::Int32,
        TensorElementType::Int64 => DataType::Int64,
        TensorElementType::Uint8 => DataType::Uint8,
        TensorElementType::Uint16 => DataType::Uint16,
        TensorElementType::Uint32 => DataType::Uint32,
        TensorElementType::Uint64 => DataType::Uint64,
        TensorElementType::Bool => DataType::Bool,
        _ => return None,
    })
}
