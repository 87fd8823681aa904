//! Limits on widths, and what hardware wants of them.

use std::str::FromStr;

use crate::groups::Group;
use crate::select::allocate::allowed_widths;

/// Limits on the widths of groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Widths are multiples of this where channels leave.
    pub align: usize,
    /// No group gets narrower than this.
    pub min_channels: usize,
    /// Take what can be reached when the budget cannot.
    pub best_effort: bool,
}

impl Default for Limits {
    /// Widths that vector units like.
    fn default() -> Self {
        Limits {
            align: 8,
            min_channels: 1,
            best_effort: false,
        }
    }
}

impl Limits {
    /// Widths that a group may have, the present one first, then descending. A channel of several
    /// positions, such as a head, brings a part of the alignment with it, unless matrices have the
    /// channels along an axis of a length that is aligned.
    #[must_use]
    pub fn widths(&self, group: &Group) -> Vec<usize> {
        let align = self.align.max(1);
        let is_axis = group.is_inner && group.channels.len().is_multiple_of(align);
        let positions = if is_axis { 1 } else { group.positions };
        let brought = (1..=align)
            .rev()
            .find(|part| align.is_multiple_of(*part) && positions.is_multiple_of(*part));
        let align = align / brought.unwrap_or(1);
        allowed_widths(group.channels.len(), align, self.min_channels)
    }

    /// Which lower limits reach a budget that these keep out of reach.
    pub(super) fn advice(&self, reaches: impl Fn(&Limits) -> bool) -> &'static str {
        let with = |align: usize, min_channels: usize| Limits {
            align,
            min_channels,
            ..*self
        };
        let lower = [
            (with(1, self.min_channels), "lower `align`, "),
            (with(self.align, 1), "lower `min_channels`, "),
            (with(1, 1), "lower `align` and `min_channels`, "),
        ];
        let mut helping = lower
            .iter()
            .filter(|(other, _)| other != self && reaches(other));
        helping.next().map_or("", |(_, advice)| advice)
    }
}

/// Where a model will run, as far as that says which widths its kernels are made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hardware {
    /// ONNX Runtime on a CPU such as this one.
    OnnxRuntimeCpu,
    /// OpenVINO on a CPU such as this one.
    OpenVinoCpu,
    /// TensorRT with weights and activations of 16 bits.
    TensorRtFp16,
    /// TensorRT with those of 8.
    TensorRtInt8,
}

impl Hardware {
    /// All, by their names.
    pub const NAMED: [(&str, Hardware); 4] = [
        ("onnxruntime-cpu", Hardware::OnnxRuntimeCpu),
        ("openvino-cpu", Hardware::OpenVinoCpu),
        ("tensorrt-fp16", Hardware::TensorRtFp16),
        ("tensorrt-int8", Hardware::TensorRtInt8),
    ];

    /// Channels that its kernels take at once. On CPUs those are as many numbers of single
    /// precision as a register of their vector units holds, which both runtimes block convolutions
    /// by. Tensor cores read 16 bytes at once, eight halves; TensorRT's convolutions of 8 bits take
    /// 32 channels (its formats `kHWC8` and `kCHW32`).
    #[must_use]
    pub fn block(self) -> usize {
        match self {
            Hardware::OnnxRuntimeCpu | Hardware::OpenVinoCpu => lanes(),
            Hardware::TensorRtFp16 => 8,
            Hardware::TensorRtInt8 => 32,
        }
    }
}

impl FromStr for Hardware {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Hardware::NAMED.iter().find(|(name, _)| *name == text);
        found.map(|(_, hardware)| *hardware).ok_or_else(|| {
            let names = Hardware::NAMED.map(|(name, _)| name).join(", ");
            format!("`target`: expected one of {names}, found '{text}'")
        })
    }
}

/// Numbers of single precision in a register of this CPU.
fn lanes() -> usize {
    #[cfg(target_arch = "x86_64")]
    if !std::arch::is_x86_feature_detected!("avx512f") {
        return 8;
    }
    16
}
