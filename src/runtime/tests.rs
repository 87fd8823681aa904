//! Tests with a real ONNX Runtime library.

use super::device::probe_model;
use super::*;
use crate::onnx::{DataType, Model, Tensor, proto};

/// The runtime of the tests. They fail without a library: nothing would be tested.
fn start(device: Device) -> Result<Runtime, RuntimeError> {
    Runtime::start(&RuntimeOptions {
        device,
        ..Default::default()
    })
}

fn cpu() -> Runtime {
    start(Device::Cpu).expect("the tests need ONNX Runtime: set ORT_DYLIB_PATH to its library")
}

fn model(dtype: DataType, op: &str, outputs: &[&str]) -> Model {
    let mut proto = probe_model();
    let graph = proto.graph.as_mut().unwrap();
    let value = |name: &str| {
        let mut value = graph.input[0].clone();
        value.name = Some(name.into());
        value
    };
    let mut infos: Vec<_> = ["x"]
        .iter()
        .chain(outputs)
        .map(|name| value(name))
        .collect();
    for info in &mut infos {
        let Some(proto::type_proto::Value::TensorType(tensor)) =
            &mut info.r#type.as_mut().unwrap().value
        else {
            panic!("a tensor");
        };
        tensor.elem_type = Some(dtype.code());
        let shape = tensor.shape.as_mut().unwrap();
        shape.dim[0].value = Some(proto::tensor_shape_proto::dimension::Value::DimParam(
            "N".into(),
        ));
    }
    graph.input = vec![infos.remove(0)];
    graph.output = infos;
    graph.node = outputs
        .iter()
        .map(|name| proto::NodeProto {
            op_type: Some(op.into()),
            input: vec!["x".into()],
            output: vec![(*name).into()],
            ..Default::default()
        })
        .collect();
    Model { proto }
}

fn floats(values: &[f32]) -> Tensor {
    Tensor::from_f32(&[values.len()], values.to_vec()).unwrap()
}

#[test]
fn a_subset_of_the_outputs_comes_in_the_order_asked_for() {
    let model = model(DataType::Float, "Neg", &["a", "b", "c"]);
    let mut session = cpu().session(&model).unwrap();
    assert_eq!(session.outputs(), ["a", "b", "c"]);
    let spec = InputSpec {
        name: "x".into(),
        dtype: DataType::Float,
        shape: vec![None],
    };
    assert_eq!(session.inputs(), [spec]);
    let x = floats(&[1.0, -2.5]);
    let found = session
        .run(&[("x".into(), x)], &["c".into(), "a".into()])
        .unwrap();
    assert_eq!(found, [floats(&[-1.0, 2.5]), floats(&[-1.0, 2.5])]);
}

#[test]
fn every_element_type_goes_there_and_back() {
    let runtime = cpu();
    for code in [1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 16] {
        let dtype = DataType::from_code(code);
        let mut session = runtime.session(&model(dtype, "Identity", &["y"])).unwrap();
        let size = dtype.size().unwrap();
        let bytes: Vec<u8> = (0..3 * size).map(|i| u8::from(i % size == 0)).collect();
        let x = Tensor {
            dtype,
            shape: vec![3],
            bytes: bytes.into(),
        };
        let found = session.run(&[("x".into(), x.clone())], &["y".into()]);
        assert_eq!(found.unwrap(), [x], "{dtype}");
    }
}

#[test]
#[cfg(not(windows))]
fn the_version_is_told() {
    let version = cpu().version().to_owned();
    assert!(version.starts_with("1."), "{version}");
}

#[test]
fn a_model_opened_from_files_gives_the_same() {
    let runtime = cpu();
    let model = model(DataType::Float, "Neg", &["y"]);
    let mut session = runtime.open_from_files(&model).unwrap();
    let folder = session._folder.as_ref().unwrap().path().to_path_buf();
    let found = session.run(&[("x".into(), floats(&[3.0]))], &["y".into()]);
    assert_eq!(found.unwrap(), [floats(&[-3.0])]);
    drop(session);
    assert!(!folder.exists());
}

#[test]
fn wrong_inputs_and_outputs_are_named() {
    let mut session = cpu()
        .session(&model(DataType::Float, "Neg", &["y"]))
        .unwrap();
    let mut error = |name: &str, tensor: Tensor, output: &str| {
        let result = session.run(&[(name.into(), tensor)], &[output.into()]);
        result.unwrap_err().to_string()
    };
    let text = error("z", floats(&[1.0]), "y");
    assert!(
        text.contains("input 'x'") && text.contains("\"z\""),
        "{text}"
    );
    let text = error("x", floats(&[1.0]), "w");
    assert!(
        text.contains("output 'w'") && text.contains("\"y\""),
        "{text}"
    );
    let integers = Tensor::from_i64(&[1], &[1]).unwrap();
    let text = error("x", integers, "y");
    assert!(
        text.contains("float [N]") && text.contains("int64 [1]"),
        "{text}"
    );
}

#[test]
fn a_model_that_onnx_runtime_refuses_is_an_error() {
    let model = model(DataType::Float, "NoSuchOperator", &["y"]);
    let error = cpu().session(&model).unwrap_err().to_string();
    assert!(error.contains("NoSuchOperator"), "{error}");
}

#[test]
fn cuda_without_a_gpu_is_an_error_and_auto_falls_back() {
    let Err(error) = start(Device::Cuda(0)) else {
        return; // This machine has one.
    };
    let text = error.to_string();
    assert!(text.contains("`device` cuda:0 cannot be used"), "{text}");
    let auto = start(Device::Auto).unwrap();
    assert_eq!(auto.device(), "CPU");
    assert!(auto.notes()[0].contains("runs on the CPU"));
}

#[test]
fn another_library_in_one_process_is_an_error() {
    let runtime = cpu();
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join(runtime.library().file_name().unwrap());
    std::fs::copy(runtime.library(), &copy).unwrap();
    let options = RuntimeOptions {
        library: Some(copy),
        ..Default::default()
    };
    let error = Runtime::start(&options).unwrap_err();
    assert!(
        matches!(error, RuntimeError::SecondLibrary { .. }),
        "{error}"
    );
}

#[test]
fn device_names() {
    let names = ["auto", "cpu", "cuda", "cuda:2"];
    let devices = [Device::Auto, Device::Cpu, Device::Cuda(0), Device::Cuda(2)];
    assert_eq!(names.map(|name| name.parse::<Device>().unwrap()), devices);
    for bad in ["gpu", "cuda:", "cuda:-1", "cuda:4294967295"] {
        assert!(bad.parse::<Device>().is_err());
    }
}
