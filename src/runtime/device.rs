//! The devices that models run on.

use std::path::Path;
use std::str::FromStr;

use super::RuntimeError;
use crate::onnx::{DataType, proto};

/// Where models run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Device {
    /// The first CUDA device when it can be used, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The CUDA device of this id, and an error when it cannot be used.
    Cuda(u32),
}

impl FromStr for Device {
    type Err = RuntimeError;

    fn from_str(text: &str) -> Result<Self, RuntimeError> {
        match text {
            "auto" => Ok(Device::Auto),
            "cpu" => Ok(Device::Cpu),
            "cuda" => Ok(Device::Cuda(0)),
            _ => text
                .strip_prefix("cuda:")
                .and_then(|id| id.parse().ok())
                .filter(|id| i32::try_from(*id).is_ok())
                .map(Device::Cuda)
                .ok_or_else(|| RuntimeError::UnknownDevice { found: text.into() }),
        }
    }
}

/// Says in the user's terms why CUDA failed. The words matched are those of the system's loader
/// and of the CUDA driver.
pub(super) fn cuda_advice(library: &Path, problem: &str) -> String {
    let provider = if cfg!(windows) {
        "onnxruntime_providers_cuda.dll"
    } else {
        "libonnxruntime_providers_cuda.so"
    };
    let beside = library.with_file_name(provider);
    let advice = if !beside.is_file() {
        format!(
            "{provider} is missing beside the library; run `onnx-mipp setup --cuda` and name its \
             library with `library`"
        )
    } else if problem.contains("cannot open shared object") || problem.contains("LoadLibrary") {
        "a library of CUDA or cuDNN is missing; install CUDA 13 and cuDNN 9 (for example `pip \
         install onnxruntime-gpu[cuda,cudnn]==1.31.1`) and put their folders in LD_LIBRARY_PATH \
         (PATH on Windows)"
            .into()
    } else {
        "check with `nvidia-smi` that a GPU of this id and a driver for CUDA 13 are there".into()
    };
    // What stands before names the place in ONNX Runtime's source.
    let words = problem.rsplit("FAIL : ").next().unwrap_or(problem).trim();
    format!("{advice}, or use `device` cpu. ONNX Runtime says: {words}")
}

/// y = x + x for one float: the least that makes a device compute.
pub(super) fn probe_model() -> proto::ModelProto {
    let value = |name: &str| proto::ValueInfoProto {
        name: Some(name.into()),
        r#type: Some(proto::TypeProto {
            value: Some(proto::type_proto::Value::TensorType(
                proto::type_proto::Tensor {
                    elem_type: Some(DataType::Float.code()),
                    shape: Some(proto::TensorShapeProto {
                        dim: vec![proto::tensor_shape_proto::Dimension {
                            value: Some(proto::tensor_shape_proto::dimension::Value::DimValue(1)),
                            ..Default::default()
                        }],
                    }),
                },
            )),
            ..Default::default()
        }),
        ..Default::default()
    };
    proto::ModelProto {
        ir_version: Some(8),
        opset_import: vec![proto::OperatorSetIdProto {
            version: Some(17),
            ..Default::default()
        }],
        graph: Some(proto::GraphProto {
            name: Some("probe".into()),
            node: vec![proto::NodeProto {
                op_type: Some("Add".into()),
                input: vec!["x".into(), "x".into()],
                output: vec!["y".into()],
                ..Default::default()
            }],
            input: vec![value("x")],
            output: vec![value("y")],
            ..Default::default()
        }),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cuda_lacks_is_told_in_the_users_terms() {
        let dir = tempfile::tempdir().unwrap();
        let library = dir.path().join("libonnxruntime.so.1.31.1");
        let text = cuda_advice(&library, "no provider");
        assert!(text.contains("is missing beside the library"), "{text}");
        let provider = if cfg!(windows) {
            "onnxruntime_providers_cuda.dll"
        } else {
            "libonnxruntime_providers_cuda.so"
        };
        std::fs::write(dir.path().join(provider), "").unwrap();
        let loader = "x.cc:1 Get() [ONNXRuntimeError] : 1 : FAIL : Failed to load library: \
                      libcublasLt.so.13: cannot open shared object file\n";
        let text = cuda_advice(&library, loader);
        assert!(
            text.contains("CUDA 13 and cuDNN 9") && !text.contains("x.cc"),
            "{text}"
        );
        let text = cuda_advice(
            &library,
            "CUDA failure 100: no CUDA-capable device is detected",
        );
        assert!(text.contains("nvidia-smi"), "{text}");
    }
}
