//! Tensors read, converted, cut and stored.

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
