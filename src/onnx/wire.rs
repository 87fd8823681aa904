//! A walk over the wire bytes before they are decoded. The decoder drops fields that it does not
//! know, so a newer or foreign model would lose content on its way through this program without a
//! word; here such fields are refused, and a truncated file is told apart from a broken one. What
//! decoding takes is counted too: two bytes may be an empty node, of hundreds of bytes in memory.

use super::OnnxError;
use crate::allowance::Allowance;

/// What is known of one message type: generated from the schema by build.rs.
struct Message {
    name: &'static str,
    /// Bytes of the decoded message itself.
    size: usize,
    fields: &'static [Field],
}

struct Field {
    number: u32,
    name: &'static str,
    /// The type of a message field, else none.
    message: Option<&'static Message>,
    /// What is held of a field that is no message.
    held: Held,
}

#[derive(Clone, Copy)]
enum Held {
    /// A copy of the text.
    Text,
    /// A slice of the file.
    Slice,
    /// Numbers of so many bytes each.
    Numbers(u64),
}

/// Copies of a decoded model, all but its slices of files, that live at the same time: the file's,
/// the one with functions in place, and ONNX Runtime's in their several forms.
const COPIES: u64 = 6;
/// Lists grow to the double of what they hold.
const GROWTH: u64 = 2;
/// A text or a slice itself.
const HANDLE: u64 = 32;

include!(concat!(env!("OUT_DIR"), "/known.rs"));

/// Nesting that the decoder (prost) accepts.
const DEPTH_LIMIT: usize = 100;

/// Checks that `bytes` are an `onnx.ModelProto` of whole, known fields.
///
/// # Errors
/// [`OnnxError::UnknownField`] or [`OnnxError::Wire`], with the place as a byte offset, or
/// [`OnnxError::OverLimit`].
pub(super) fn check(bytes: &[u8], allowance: Allowance) -> Result<(), OnnxError> {
    let mut reader = Reader {
        bytes,
        position: 0,
        taken: 0,
    };
    reader.message(&ONNX_MODELPROTO, bytes.len(), 0)?;
    let asked = reader.taken.saturating_mul(COPIES);
    let what = || "the model, without tensors in raw form, with its copies,".to_owned();
    let advice = "export it with tensors as raw data, or allow more";
    Ok(allowance.bytes(asked, what, advice)?)
}

struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
    /// Bytes that decoding takes.
    taken: u64,
}

impl Reader<'_> {
    /// Walks one message, which ends at `end`.
    fn message(&mut self, message: &Message, end: usize, depth: usize) -> Result<(), OnnxError> {
        if depth > DEPTH_LIMIT {
            let what = format!("messages are nested more than {DEPTH_LIMIT} deep");
            return Err(self.broken(message, what));
        }
        while self.position < end {
            let start = self.position;
            let key = self.varint(message, end)?;
            let number = u32::try_from(key >> 3).unwrap_or(u32::MAX);
            let Some(field) = message.fields.iter().find(|f| f.number == number) else {
                return Err(OnnxError::UnknownField {
                    number: key >> 3,
                    message: message.name,
                    offset: start,
                });
            };
            match key & 7 {
                0 => {
                    self.varint(message, end)?;
                    self.take(8);
                }
                1 => {
                    self.skip(message, field, 8, end)?;
                    self.take(8);
                }
                5 => {
                    self.skip(message, field, 4, end)?;
                    self.take(4);
                }
                2 => self.delimited(message, field, end, depth)?,
                wire_type => {
                    let what = format!(
                        "field '{}' has wire type {wire_type} (groups and reserved wire types \
                         are no part of ONNX)",
                        field.name
                    );
                    return Err(self.broken(message, what));
                }
            }
        }
        Ok(())
    }

    /// A field that states its length: walked when it is a message, else skipped.
    fn delimited(
        &mut self,
        message: &Message,
        field: &Field,
        end: usize,
        depth: usize,
    ) -> Result<(), OnnxError> {
        let length = self.varint(message, end)?;
        let start = self.position;
        self.skip(message, field, length, end)?;
        match field.message {
            Some(inner) => {
                let inner_end = self.position;
                self.position = start;
                self.take(inner.size as u64);
                self.message(inner, inner_end, depth + 1)
            }
            None => {
                self.take(match field.held {
                    Held::Text => HANDLE.saturating_add(length),
                    Held::Slice => HANDLE,
                    Held::Numbers(size) => {
                        let packed = self.bytes.get(start..self.position).unwrap_or_default();
                        // The last byte of a number of variable length has no highest bit. Numbers
                        // of fixed length are no longer in memory than in the file.
                        let ends = packed.iter().filter(|&&byte| byte & 0x80 == 0).count();
                        size.saturating_mul(ends as u64).max(length)
                    }
                });
                Ok(())
            }
        }
    }

    fn take(&mut self, bytes: u64) {
        self.taken = self.taken.saturating_add(bytes.saturating_mul(GROWTH));
    }

    fn skip(
        &mut self,
        message: &Message,
        field: &Field,
        length: u64,
        end: usize,
    ) -> Result<(), OnnxError> {
        let left = end - self.position;
        match usize::try_from(length) {
            Ok(length) if length <= left => {
                self.position += length;
                Ok(())
            }
            _ => {
                let name = field.name;
                let what = format!("field '{name}' needs {length} bytes but {left} are left");
                Err(self.broken(message, what))
            }
        }
    }

    fn varint(&mut self, message: &Message, end: usize) -> Result<u64, OnnxError> {
        let mut value = 0_u64;
        let rest = self.bytes.get(self.position..end).unwrap_or_default();
        for (i, byte) in rest.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte & 0x80 == 0 {
                self.position += i + 1;
                return Ok(value);
            }
        }
        let what = if rest.len() < 10 {
            "the bytes end inside a number"
        } else {
            "a number is longer than 10 bytes"
        };
        Err(self.broken(message, what.to_owned()))
    }

    fn broken(&self, message: &Message, what: String) -> OnnxError {
        OnnxError::Wire {
            offset: self.position,
            message: message.name,
            what,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const MUCH: Allowance = Allowance { bytes: 1 << 30 };

    #[test]
    fn what_decoding_takes_is_counted() {
        // ModelProto.graph (7) { node (1) {} ... }: two bytes each, hundreds when decoded.
        let count = 100_000;
        let nodes = [0x0a, 0].repeat(count);
        let mut bytes = vec![0x3a];
        prost::encoding::encode_varint(nodes.len() as u64, &mut bytes);
        bytes.extend(nodes);
        let node = size_of::<super::super::proto::NodeProto>() as u64;
        let least = node * count as u64;
        let error = check(&bytes, Allowance { bytes: least }).unwrap_err();
        assert!(matches!(error, OnnxError::OverLimit(_)), "{error}");
        let enough = Allowance { bytes: 20 * least };
        assert!(check(&bytes, enough).is_ok());
        // graph { initializer (5) { raw_data (9) } } of a megabyte stays in the file, and packed
        // int32_data (5) of as many bytes becomes numbers of four bytes each.
        let with = |key: u8| {
            let mut tensor = vec![key];
            prost::encoding::encode_varint(1 << 20, &mut tensor);
            tensor.extend([0; 1 << 20]);
            [
                &[0x3a, 0x88, 0x80, 0x40, 0x2a, 0x84, 0x80, 0x40],
                tensor.as_slice(),
            ]
            .concat()
        };
        let most = Allowance { bytes: 4 << 20 };
        assert!(check(&with(0x4a), most).is_ok());
        assert!(matches!(
            check(&with(0x2a), most),
            Err(OnnxError::OverLimit(_))
        ));
    }

    #[test]
    fn unknown_field_is_refused_with_number_and_message() {
        // ModelProto.graph (7) { node (1) { field 99, varint 1 } }
        let node = [0x98, 0x06, 0x01];
        let graph = [&[0x0a, 3][..], &node].concat();
        let model = [&[0x3a, 5][..], &graph].concat();
        let error = check(&model, MUCH).unwrap_err();
        assert!(matches!(
            error,
            OnnxError::UnknownField {
                number: 99,
                message: "onnx.NodeProto",
                offset: 4
            }
        ));
        let text = error.to_string();
        assert!(text.contains("field 99 of onnx.NodeProto"), "{text}");
    }

    #[test]
    fn truncation_is_told() {
        // ModelProto.graph of 16 bytes, none of which is there
        let text = check(&[0x3a, 16], MUCH).unwrap_err().to_string();
        assert!(
            text.contains("'graph' needs 16 bytes but 0 are left"),
            "{text}"
        );
        let text = check(&[0x08, 0x80], MUCH).unwrap_err().to_string();
        assert!(text.contains("end inside a number"), "{text}");
        let bytes = [
            0x3a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1,
        ];
        assert!(check(&bytes, MUCH).is_err());
    }

    #[test]
    fn groups_and_deep_nesting_are_refused() {
        let text = check(&[0x3b, 0x3c], MUCH).unwrap_err().to_string();
        assert!(text.contains("wire type 3"), "{text}");
        // graph { node { attribute { g { node ... } } } }, 201 levels
        let mut bytes = Vec::new();
        for level in 0..201 {
            let key = match level % 3 {
                0 => 0x32, // AttributeProto.g
                1 => 0x2a, // NodeProto.attribute
                _ => 0x0a, // GraphProto.node
            };
            let mut outer = vec![key];
            prost::encoding::encode_varint(bytes.len() as u64, &mut outer);
            outer.extend(bytes);
            bytes = outer;
        }
        let mut model = vec![0x3a];
        prost::encoding::encode_varint(bytes.len() as u64, &mut model);
        model.extend(bytes);
        let text = check(&model, MUCH).unwrap_err().to_string();
        assert!(text.contains("nested more than"), "{text}");
    }
}
