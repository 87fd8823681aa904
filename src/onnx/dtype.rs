//! Element types of tensors.

use super::proto::tensor_proto::DataType as Code;
use std::fmt;

/// The element type of a tensor. Those that this crate computes with are named, the rest are
/// carried through by their number in `onnx.TensorProto.DataType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)] // The names are the standard's.
pub enum DataType {
    Float,
    Double,
    Float16,
    Bfloat16,
    Int8,
    Int16,
    Int32,
    Int64,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Bool,
    /// Any other: strings, complex numbers, 8-bit floats, types of less than a byte.
    Other(i32),
}

const NAMED: [(DataType, Code); 13] = [
    (DataType::Float, Code::Float),
    (DataType::Double, Code::Double),
    (DataType::Float16, Code::Float16),
    (DataType::Bfloat16, Code::Bfloat16),
    (DataType::Int8, Code::Int8),
    (DataType::Int16, Code::Int16),
    (DataType::Int32, Code::Int32),
    (DataType::Int64, Code::Int64),
    (DataType::Uint8, Code::Uint8),
    (DataType::Uint16, Code::Uint16),
    (DataType::Uint32, Code::Uint32),
    (DataType::Uint64, Code::Uint64),
    (DataType::Bool, Code::Bool),
];

impl DataType {
    /// The type with number `code` in `onnx.TensorProto.DataType`.
    pub fn from_code(code: i32) -> DataType {
        let named = NAMED.iter().find(|(_, number)| *number as i32 == code);
        named.map_or(DataType::Other(code), |(dtype, _)| *dtype)
    }

    /// The number of this type in `onnx.TensorProto.DataType`.
    pub fn code(self) -> i32 {
        match self {
            DataType::Other(code) => code,
            _ => NAMED
                .iter()
                .find(|(dtype, _)| *dtype == self)
                .map_or(0, |(_, number)| *number as i32),
        }
    }

    /// Bits of one element in `raw_data`; none for strings and unknown types.
    pub fn bits(self) -> Option<usize> {
        Some(match Code::try_from(self.code()).ok()? {
            Code::Undefined | Code::String => return None,
            Code::Uint2 | Code::Int2 => 2,
            Code::Uint4 | Code::Int4 | Code::Float4e2m1 => 4,
            Code::Float6e2m3 | Code::Float6e3m2 => 6,
            Code::Uint8 | Code::Int8 | Code::Bool => 8,
            Code::Float8e4m3fn | Code::Float8e4m3fnuz | Code::Float8e5m2 => 8,
            Code::Float8e5m2fnuz | Code::Float8e8m0 => 8,
            Code::Uint16 | Code::Int16 | Code::Float16 | Code::Bfloat16 => 16,
            Code::Float | Code::Int32 | Code::Uint32 => 32,
            Code::Double | Code::Int64 | Code::Uint64 | Code::Complex64 => 64,
            Code::Complex128 => 128,
        })
    }

    /// Bytes of one element; none for strings, types of less than a byte and unknown types.
    pub fn size(self) -> Option<usize> {
        self.bits()
            .filter(|bits| bits % 8 == 0)
            .map(|bits| bits / 8)
    }
}

/// The standard's name in small letters, as in `float16`.
impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Code::try_from(self.code()) {
            Ok(code) => f.write_str(&code.as_str_name().to_lowercase()),
            Err(_) => write!(f, "type number {}", self.code()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_go_there_and_back() {
        for code in -1..40 {
            assert_eq!(DataType::from_code(code).code(), code);
        }
        assert_eq!(DataType::from_code(10), DataType::Float16);
        assert_eq!(DataType::Float16.to_string(), "float16");
        assert_eq!(DataType::Other(99).to_string(), "type number 99");
    }

    #[test]
    fn sizes_are_those_of_the_standard() {
        let sizes = |codes: &[i32]| -> Vec<_> {
            codes
                .iter()
                .map(|c| DataType::from_code(*c).size())
                .collect()
        };
        assert_eq!(sizes(&[1, 7, 9, 10, 15]), [4, 8, 1, 2, 16].map(Some));
        assert_eq!(sizes(&[0, 8, 22, 27, 29]), [None; 5]);
    }
}
