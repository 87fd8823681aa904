//! Operators on integers with their scales beside them: QLinearConv and the like become quantisers
//! around the operator on real numbers.

use super::{Parts, attribute, input, int, int_attribute, output, without};
use crate::onnx::proto::{AttributeProto, NodeProto};
use crate::onnx::{DataType, Tensor};

/// Integers that a node reads in a slot; their scale and zero point are in the next two.
struct Operand {
    slot: usize,
    /// The axis along which scales may lie.
    axis: Option<i64>,
}

/// What a node is in real numbers.
struct Plain<'a> {
    op: &'a str,
    operands: Vec<Operand>,
    /// The slot of a bias of integers, in the scale of the product of the two operands.
    bias: Option<(usize, f32)>,
    /// The slot of the scale of what is made, which its zero point follows.
    made: usize,
    attributes: Vec<AttributeProto>,
}

impl Parts<'_> {
    /// Quantisers around an operator on real numbers.
    pub(super) fn quantised(&mut self, node: &NodeProto) -> Option<()> {
        match node.op_type() {
            "DynamicQuantizeMatMul" => return self.dynamic_product(node),
            "MatMulIntegerToFloat" => return self.integer_product(node),
            _ => {}
        }
        let plain = self.plain(node)?;
        let is_known = |operand: &Operand| self.has_scale(node, operand);
        let is_made = |slot: usize| {
            let is_one = self.scales(input(node, slot)).is_some_and(|s| s.len() == 1);
            is_one && self.is_of_bytes(input(node, slot + 1))
        };
        // QGemm without a scale for it makes real numbers.
        let stays_real = node.op_type() == "QGemm" && input(node, plain.made).is_empty();
        if !plain.operands.iter().all(is_known) || !(stays_real || is_made(plain.made)) {
            return None;
        }
        let bias = match plain.bias {
            Some((slot, gain)) if !input(node, slot).is_empty() => {
                Some((slot, self.bias_scale(node, &plain, gain)?))
            }
            _ => None,
        };
        let output = output(node, 0)?;
        let mut read = Vec::new();
        // The condition of a Where has no scale.
        if node.op_type() == "QLinearWhere" {
            read.push(input(node, 0).to_owned());
        }
        for operand in &plain.operands {
            let names = [0, 1, 2].map(|offset| input(node, operand.slot + offset));
            read.push(self.real(names, operand.axis));
        }
        if let Some((slot, scale)) = bias {
            let is_one = scale.len() == 1;
            let scale = self.store("scale", &scale);
            let axis = (!is_one).then_some(0);
            read.push(self.real([input(node, slot), &scale, ""], axis));
        }
        let read: Vec<&str> = read.iter().map(String::as_str).collect();
        if stays_real {
            self.push((plain.op, node.name()), &read, output, plain.attributes);
            return Some(());
        }
        let made = self.names.fresh("real");
        self.push((plain.op, node.name()), &read, &made, plain.attributes);
        let read = [&made, input(node, plain.made), input(node, plain.made + 1)];
        self.push(("QuantizeLinear", ""), &read, output, vec![]);
        Some(())
    }

    fn plain<'a>(&self, node: &'a NodeProto) -> Option<Plain<'a>> {
        const PRODUCTS: [Operand; 2] = [one(0), one(3)];
        let op = node.op_type();
        let moves_channels = int(node, "channels_last", 0) != 0;
        let plain = |op, operands: Vec<Operand>, made| Plain {
            op,
            operands,
            bias: None,
            made,
            attributes: without(node, &["channels_last"]),
        };
        Some(match op {
            _ if moves_channels => return None,
            "QLinearConv" => Plain {
                bias: Some((8, 1.0)),
                ..plain("Conv", vec![one(0), along(3, 0)], 6)
            },
            "QLinearMatMul" => {
                let last = self
                    .constants
                    .get(input(node, 3))
                    .map_or(0, |b| b.dims.len());
                let last = i64::try_from(last).ok()? - 1;
                plain("MatMul", vec![one(0), along(3, last)], 6)
            }
            "QGemm" => {
                let axis = i64::from(int(node, "transB", 0) == 0);
                let alpha = attribute(node, "alpha").and_then(|a| a.f).unwrap_or(1.0);
                Plain {
                    bias: Some((6, alpha)),
                    ..plain("Gemm", vec![one(0), along(3, axis)], 7)
                }
            }
            "QLinearAdd" => plain("Add", PRODUCTS.into(), 6),
            "QLinearMul" => plain("Mul", PRODUCTS.into(), 6),
            "QLinearWhere" => plain("Where", vec![one(1), one(4)], 7),
            "QLinearGlobalAveragePool" => plain("GlobalAveragePool", vec![one(0)], 3),
            "QLinearAveragePool" => plain("AveragePool", vec![one(0)], 3),
            "QLinearSigmoid" => plain("Sigmoid", vec![one(0)], 3),
            "QLinearLeakyRelu" => plain("LeakyRelu", vec![one(0)], 3),
            "QLinearSoftmax" => {
                // It says by which opset's rules its axis counts.
                let alike = (int(node, "opset", 13) < 13) == (self.opset < 13);
                Plain {
                    attributes: without(node, &["opset"]),
                    ..alike.then(|| plain("Softmax", vec![one(0)], 3))?
                }
            }
            "QLinearConcat" => {
                let operands = (2..node.input.len()).step_by(3).map(one).collect();
                plain("Concat", operands, 0)
            }
            _ => return None,
        })
    }

    /// Whether the scales of an operand are constants that fit.
    fn has_scale(&self, node: &NodeProto, operand: &Operand) -> bool {
        let Some(scales) = self.scales(input(node, operand.slot + 1)) else {
            return false;
        };
        let zero_point = input(node, operand.slot + 2);
        let zero_points = match self.constants.get(zero_point) {
            Some(tensor) => tensor.dims.iter().product::<i64>(),
            None if zero_point.is_empty() => i64::try_from(scales.len()).unwrap_or(0),
            None => return false,
        };
        let fits = i64::try_from(scales.len()) == Ok(zero_points);
        let is_one = scales.len() == 1;
        // Axes of scales came with opset 13, and other integers than bytes with 21.
        let is_along = operand.axis.is_some() && self.opset >= 13 && scales.shape.len() == 1;
        fits && (is_one || is_along) && (zero_point.is_empty() || self.is_of_bytes(zero_point))
    }

    /// A constant of single precision.
    fn scales(&self, name: &str) -> Option<Tensor> {
        let tensor = Tensor::from_proto(self.constants.get(name)?).ok()?;
        (tensor.dtype == DataType::Float && !tensor.is_empty()).then_some(tensor)
    }

    fn is_of_bytes(&self, name: &str) -> bool {
        let tensor = self.constants.get(name);
        let dtype = tensor.map(|tensor| DataType::from_code(tensor.data_type()));
        matches!(dtype, Some(DataType::Int8 | DataType::Uint8))
    }

    /// The scales of a bias: those of both operands multiplied.
    fn bias_scale(&self, node: &NodeProto, plain: &Plain<'_>, gain: f32) -> Option<Tensor> {
        let [data, weight] = plain.operands.as_slice() else {
            return None;
        };
        let scale = |operand: &Operand| self.scales(input(node, operand.slot + 1));
        let (data, weight) = (scale(data)?, scale(weight)?);
        let data = *data.to_f32().ok()?.first()?;
        let scales = weight.to_f32().ok()?.into_iter();
        let scales = scales.map(|weight| gain * data * weight).collect();
        let shape: &[usize] = if weight.len() == 1 {
            &[]
        } else {
            &weight.shape
        };
        Tensor::from_f32(shape, scales).ok()
    }

    /// The real numbers of `[integers, scale, zero point]`.
    fn real(&mut self, names: [&str; 3], axis: Option<i64>) -> String {
        let key = names.map(str::to_owned).to_vec();
        let key = ("DequantizeLinear", key);
        if let Some([known]) = self.known.get(&key).map(Vec::as_slice) {
            return known.clone();
        }
        let made = self.names.fresh("real");
        let is_along = self.scales(names[1]).is_none_or(|scales| scales.len() > 1);
        let axis = axis.filter(|_| is_along);
        let attributes = axis.map(|axis| int_attribute("axis", axis));
        let attributes = attributes.into_iter().collect();
        self.push(("DequantizeLinear", ""), &names, &made, attributes);
        self.known.insert(key, vec![made.clone()]);
        made
    }

    /// DynamicQuantizeMatMul reads `A, B, B's scale, B's zero point, bias`.
    fn dynamic_product(&mut self, node: &NodeProto) -> Option<()> {
        let output = output(node, 0)?.to_owned();
        let data = input(node, 0).to_owned();
        let key = ("DynamicQuantizeLinear", vec![data.clone()]);
        let made = match self.known.get(&key) {
            Some(made) => made.clone(),
            None => {
                let made = ["integers", "scale", "zero_point"];
                let made = made.map(|what| self.names.fresh(&format!("{data}/{what}")));
                let outputs = made.to_vec();
                self.push_with(("DynamicQuantizeLinear", ""), &[&data], outputs, vec![]);
                self.known.insert(key, made.to_vec());
                made.to_vec()
            }
        };
        let [integers, scale, zero_point] = made.as_slice() else {
            return None;
        };
        let read = [
            integers.as_str(),
            input(node, 1),
            zero_point,
            input(node, 3),
        ];
        self.scaled_product(node, read, [scale, input(node, 2)], input(node, 4), &output)
    }

    /// MatMulIntegerToFloat reads `A, B, A's scale, B's scale, A's zero point, B's zero point,
    /// bias`.
    fn integer_product(&mut self, node: &NodeProto) -> Option<()> {
        let output = output(node, 0)?;
        let read = [0, 1, 4, 5].map(|slot| input(node, slot));
        let scales = [input(node, 2), input(node, 3)];
        self.scaled_product(node, read, scales, input(node, 6), output)
    }

    fn scaled_product(
        &mut self,
        node: &NodeProto,
        read: [&str; 4],
        scales: [&str; 2],
        bias: &str,
        output: &str,
    ) -> Option<()> {
        let name = node.name();
        let mut names = self.steps(output, 2 + usize::from(!bias.is_empty()));
        let (sums, real, scale) = (names.next()?, names.next()?, format!("{output}/scale"));
        let scale = self.names.fresh(&scale);
        self.push(("MatMulInteger", name), &read, &sums, vec![]);
        let to = int_attribute("to", i64::from(DataType::Float.code()));
        self.push(("Cast", ""), &[&sums], &real, vec![to]);
        self.push(("Mul", ""), &scales, &scale, vec![]);
        let made = names.next()?;
        self.push(("Mul", ""), &[&real, &scale], &made, vec![]);
        if !bias.is_empty() {
            let last = names.next()?;
            self.push(("Add", ""), &[&made, bias], &last, vec![]);
        }
        Some(())
    }
}

const fn one(slot: usize) -> Operand {
    Operand { slot, axis: None }
}

const fn along(slot: usize, axis: i64) -> Operand {
    Operand {
        slot,
        axis: Some(axis),
    }
}
