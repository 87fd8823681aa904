//! SHA-256 sums as text.

use std::fmt::Write;

use sha2::{Digest, Sha256};

/// The sum in hexadecimal digits.
pub(crate) fn hex(hash: Sha256) -> String {
    let mut text = String::new();
    for byte in hash.finalize() {
        // Writing to a text cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
