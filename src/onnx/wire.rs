//! A walk over the wire bytes before they are decoded. The decoder drops fields that it does not
//! know, so a newer or foreign model would lose content on its way through this program without
//! a word; here such fields are refused, and a truncated file is told apart from a broken one.

use super::OnnxError;

/// What is known of one message type: generated from the schema by build.rs.
struct Message {
    name: &'static str,
    fields: &'static [Field],
}

struct Field {
    number: u32,
    name: &'static str,
    /// The type of a message field, else none.
    message: Option<&'static Message>,
}

include!(concat!(env!("OUT_DIR"), "/known.rs"));

/// Nesting that the decoder (prost) accepts.
const DEPTH_LIMIT: usize = 100;

/// Checks that `bytes` are an `onnx.ModelProto` of whole, known fields.
///
/// # Errors
/// [`OnnxError::UnknownField`] or [`OnnxError::Wire`], with the place as a byte offset.
pub(super) fn check(bytes: &[u8]) -> Result<(), OnnxError> {
    let mut reader = Reader { bytes, position: 0 };
    reader.message(&ONNX_MODELPROTO, bytes.len(), 0)
}

struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
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
                0 => drop(self.varint(message, end)?),
                1 => self.skip(message, field, 8, end)?,
                5 => self.skip(message, field, 4, end)?,
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
                self.message(inner, inner_end, depth + 1)
            }
            None => Ok(()),
        }
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

    #[test]
    fn unknown_field_is_refused_with_number_and_message() {
        // ModelProto.graph (7) { node (1) { field 99, varint 1 } }
        let node = [0x98, 0x06, 0x01];
        let graph = [&[0x0a, 3][..], &node].concat();
        let model = [&[0x3a, 5][..], &graph].concat();
        let error = check(&model).unwrap_err();
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
        let text = check(&[0x3a, 16]).unwrap_err().to_string();
        assert!(
            text.contains("'graph' needs 16 bytes but 0 are left"),
            "{text}"
        );
        let text = check(&[0x08, 0x80]).unwrap_err().to_string();
        assert!(text.contains("end inside a number"), "{text}");
        let text = check(&[
            0x3a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1,
        ]);
        assert!(text.is_err());
    }

    #[test]
    fn groups_and_deep_nesting_are_refused() {
        let text = check(&[0x3b, 0x3c]).unwrap_err().to_string();
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
        let text = check(&model).unwrap_err().to_string();
        assert!(text.contains("nested more than"), "{text}");
    }
}
