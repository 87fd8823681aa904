//! Conversion of element types, on little-endian bytes.

use half::{bf16, f16};

use crate::onnx::DataType;

/// What a conversion may do to the values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Conversion {
    /// Nothing: same type, or every value of one exists in the other.
    Exact,
    /// Each value is checked; one that does not exist in the new type is an error.
    Checked,
    /// Values are rounded to the nearest.
    Rounded,
}

pub(super) fn is_float(dtype: DataType) -> bool {
    mantissa(dtype).is_some()
}

/// Bits of precision of a float type.
fn mantissa(dtype: DataType) -> Option<u32> {
    match dtype {
        DataType::Double => Some(53),
        DataType::Float => Some(24),
        DataType::Float16 => Some(11),
        DataType::Bfloat16 => Some(8),
        _ => None,
    }
}

/// How `from` becomes `to`; `None` when it must not.
pub(super) fn conversion(from: DataType, to: DataType) -> Option<Conversion> {
    if from == to {
        return Some(Conversion::Exact);
    }
    if matches!(from, DataType::Other(_)) || matches!(to, DataType::Other(_) | DataType::Bool) {
        return None;
    }
    match (is_float(from), is_float(to)) {
        (true, false) => None,
        (true, true) => {
            let wider = from == DataType::Float && to == DataType::Double
                || from == DataType::Float16 && to != DataType::Bfloat16
                || from == DataType::Bfloat16 && to != DataType::Float16;
            Some(if wider {
                Conversion::Exact
            } else {
                Conversion::Rounded
            })
        }
        (false, true) => {
            let bits = from.size().map_or(64, |size| size * 8) as u32;
            let exact = mantissa(to).is_some_and(|m| bits <= m) && to != DataType::Bfloat16;
            Some(if exact {
                Conversion::Exact
            } else {
                Conversion::Checked
            })
        }
        (false, false) => Some(Conversion::Checked),
    }
}

/// Applies `$body` to each element as the type that `$dtype` names.
macro_rules! each {
    ($bytes:expr, $type:ty, $convert:expr) => {{
        let (elements, _) = $bytes.as_chunks::<{ size_of::<$type>() }>();
        elements
            .iter()
            .map(|bytes| $convert(<$type>::from_le_bytes(*bytes)))
            .collect()
    }};
}

fn floats(bytes: &[u8], dtype: DataType) -> Vec<f64> {
    match dtype {
        DataType::Double => each!(bytes, f64, |v| v),
        DataType::Float16 => each!(bytes, f16, f64::from),
        DataType::Bfloat16 => each!(bytes, bf16, f64::from),
        _ => each!(bytes, f32, f64::from),
    }
}

fn integers(bytes: &[u8], dtype: DataType) -> Vec<i128> {
    match dtype {
        DataType::Int8 => each!(bytes, i8, i128::from),
        DataType::Int16 => each!(bytes, i16, i128::from),
        DataType::Int32 => each!(bytes, i32, i128::from),
        DataType::Int64 => each!(bytes, i64, i128::from),
        DataType::Uint16 => each!(bytes, u16, i128::from),
        DataType::Uint32 => each!(bytes, u32, i128::from),
        DataType::Uint64 => each!(bytes, u64, i128::from),
        DataType::Bool => each!(bytes, u8, |v| i128::from(v != 0)),
        _ => each!(bytes, u8, i128::from),
    }
}

/// Bytes of `values` as `to`, a float type, rounded to the nearest.
pub(super) fn from_f64(values: &[f64], to: DataType) -> Vec<u8> {
    let values = values.iter();
    match to {
        DataType::Double => values.flat_map(|v| v.to_le_bytes()).collect(),
        DataType::Float16 => values
            .flat_map(|v| f16::from_f64(*v).to_le_bytes())
            .collect(),
        DataType::Bfloat16 => values
            .flat_map(|v| bf16::from_f64(*v).to_le_bytes())
            .collect(),
        _ => values.flat_map(|v| (*v as f32).to_le_bytes()).collect(),
    }
}

/// Bytes of one integer as `to`, an integer type; `None` when it does not fit.
fn integer(value: i128, to: DataType, bytes: &mut Vec<u8>) -> Option<()> {
    match to {
        DataType::Int8 => bytes.extend(i8::try_from(value).ok()?.to_le_bytes()),
        DataType::Int16 => bytes.extend(i16::try_from(value).ok()?.to_le_bytes()),
        DataType::Int32 => bytes.extend(i32::try_from(value).ok()?.to_le_bytes()),
        DataType::Int64 => bytes.extend(i64::try_from(value).ok()?.to_le_bytes()),
        DataType::Uint16 => bytes.extend(u16::try_from(value).ok()?.to_le_bytes()),
        DataType::Uint32 => bytes.extend(u32::try_from(value).ok()?.to_le_bytes()),
        DataType::Uint64 => bytes.extend(u64::try_from(value).ok()?.to_le_bytes()),
        _ => bytes.extend(u8::try_from(value).ok()?.to_le_bytes()),
    }
    Some(())
}

/// Bytes of `values` as `to`, an integer type or bool; what does not fit becomes 0.
pub(super) fn from_i64(values: &[i64], to: DataType) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(values.len() * to.size().unwrap_or(1));
    for &value in values {
        let value = match to {
            DataType::Bool => i128::from(value != 0),
            _ => i128::from(value),
        };
        if integer(value, to, &mut bytes).is_none() {
            bytes.extend(std::iter::repeat_n(0, to.size().unwrap_or(1)));
        }
    }
    bytes
}

/// Converts elements for which [`conversion`] gave an answer; the error is a value that does not
/// exist in the new type.
pub(super) fn convert(bytes: Vec<u8>, from: DataType, to: DataType) -> Result<Vec<u8>, i128> {
    if from == to {
        return Ok(bytes);
    }
    if is_float(from) {
        return Ok(from_f64(&floats(&bytes, from), to));
    }
    let values = integers(&bytes, from);
    if !is_float(to) {
        let mut converted = Vec::with_capacity(values.len() * to.size().unwrap_or(1));
        for value in values {
            integer(value, to, &mut converted).ok_or(value)?;
        }
        return Ok(converted);
    }
    // i128 to f64 to the type: exact if the way back gives the same.
    let wide: Vec<f64> = values.iter().map(|value| *value as f64).collect();
    let converted = from_f64(&wide, to);
    let back = floats(&converted, to);
    match values
        .iter()
        .zip(back)
        .find(|(value, back)| *back as i128 != **value)
    {
        Some((value, _)) => Err(*value),
        None => Ok(converted),
    }
}

/// Whether all elements are finite; integers always are.
pub(super) fn is_finite(bytes: &[u8], dtype: DataType) -> bool {
    fn all<const N: usize>(bytes: &[u8], test: impl Fn([u8; N]) -> bool) -> bool {
        bytes
            .as_chunks::<N>()
            .0
            .iter()
            .all(|element| test(*element))
    }
    match dtype {
        DataType::Double => all(bytes, |b| f64::from_le_bytes(b).is_finite()),
        DataType::Float => all(bytes, |b| f32::from_le_bytes(b).is_finite()),
        DataType::Float16 => all(bytes, |b| f16::from_le_bytes(b).is_finite()),
        DataType::Bfloat16 => all(bytes, |b| bf16::from_le_bytes(b).is_finite()),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn f32s(bytes: &[u8]) -> Vec<f64> {
        floats(bytes, DataType::Float)
    }

    #[test]
    fn integers_and_half_floats_become_floats_exactly() {
        assert_eq!(
            conversion(DataType::Uint8, DataType::Float),
            Some(Conversion::Exact)
        );
        let found = convert(vec![0, 127, 255], DataType::Uint8, DataType::Float);
        assert_eq!(f32s(&found.unwrap()), [0.0, 127.0, 255.0]);
        let half = f16::from_f32(0.333).to_le_bytes().to_vec();
        let found = convert(half, DataType::Float16, DataType::Float).unwrap();
        assert_eq!(f32s(&found), [f64::from(f16::from_f32(0.333))]);
    }

    #[test]
    fn an_integer_that_the_float_cannot_hold_is_an_error() {
        let ints = |v: i64| v.to_le_bytes().to_vec();
        assert_eq!(
            conversion(DataType::Int64, DataType::Float),
            Some(Conversion::Checked)
        );
        let edge = 1 << 24;
        assert!(convert(ints(edge), DataType::Int64, DataType::Float).is_ok());
        let found = convert(ints(edge + 1), DataType::Int64, DataType::Float);
        assert_eq!(found, Err(i128::from(edge + 1)));
        let found = convert(ints(-1), DataType::Int64, DataType::Uint8);
        assert_eq!(found, Err(-1));
        assert_eq!(
            convert(ints(200), DataType::Int64, DataType::Uint8),
            Ok(vec![200])
        );
    }

    #[test]
    fn floats_never_become_integers_and_doubles_are_rounded() {
        assert_eq!(conversion(DataType::Float, DataType::Int64), None);
        assert_eq!(conversion(DataType::Int8, DataType::Bool), None);
        assert_eq!(
            conversion(DataType::Double, DataType::Float),
            Some(Conversion::Rounded)
        );
        let third = (1.0_f64 / 3.0).to_le_bytes().to_vec();
        let found = convert(third, DataType::Double, DataType::Float).unwrap();
        assert_eq!(f32s(&found), [f64::from(1.0_f32 / 3.0)]);
    }
}
