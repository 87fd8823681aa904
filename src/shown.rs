//! Text of strangers, such as the names of nodes and files, made fit to be shown: a name may hold
//! what moves a terminal's cursor, colours what follows or reverses its order.

use std::borrow::Cow;
use std::fmt::Write;

/// Messages are cut here, by their count of characters: some repeat what is in a file.
const LONGEST: usize = 4000;

/// Whether a character does something other than to stand there.
fn is_hidden(c: char) -> bool {
    // Controls of C0 and C1, then marks that order the writing or have no width.
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{feff}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
}

/// Text in one line: what is hidden is shown as in source code, such as `\u{1b}` or `\n`.
pub fn line(text: &str) -> Cow<'_, str> {
    but(text, &[])
}

/// Text of several lines, of which those after the first stand further in, so that none can pass
/// for a line of the program. What is overlong is cut.
pub fn message(text: &str) -> Cow<'_, str> {
    let text = match text.char_indices().nth(LONGEST) {
        Some((end, _)) => Cow::Owned(format!(
            "{} ... ({} bytes more)",
            text.get(..end).unwrap_or_default(),
            text.len() - end
        )),
        None => Cow::Borrowed(text),
    };
    if !text.contains(is_hidden) {
        return text;
    }
    let lines: Vec<Cow<str>> = text.lines().map(line).collect();
    Cow::Owned(lines.join("\n  "))
}

/// A whole page of text, whose lines stay as they are.
pub fn page(text: &str) -> Cow<'_, str> {
    but(text, &['\n'])
}

fn but<'t>(text: &'t str, kept: &[char]) -> Cow<'t, str> {
    let is_wrong = |c: char| is_hidden(c) && !kept.contains(&c);
    if !text.contains(is_wrong) {
        return Cow::Borrowed(text);
    }
    let one = |c: char| {
        if is_wrong(c) {
            c.escape_default().to_string()
        } else {
            c.to_string()
        }
    };
    Cow::Owned(text.chars().map(one).collect())
}

/// JSON with all that is hidden escaped; the format itself asks that of the controls of C0 only.
pub fn json(text: &str) -> Cow<'_, str> {
    let is_wrong = |c: char| is_hidden(c) && c != '\n';
    if !text.contains(is_wrong) {
        return Cow::Borrowed(text);
    }
    let mut out = String::new();
    for c in text.chars() {
        if is_wrong(c) {
            // All of them are below 0x10000. Writing to a string does not fail.
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        } else {
            out.push(c)
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A terminal's title, a cleared screen, a line of its own, C1's CSI, DEL and a reversed order.
    const EVIL: &str = "a\x1b]0;x\x07\x1b[2J\r\nonnx-mipp: done\u{9b}31m\u{7f}\u{202e}b";

    #[test]
    fn nothing_that_acts_is_left() {
        let shown = r"a\u{1b}]0;x\u{7}\u{1b}[2J\r\nonnx-mipp: done\u{9b}31m\u{7f}\u{202e}b";
        assert_eq!(line(EVIL), shown);
        let shown = "a\\u{1b}]0;x\\u{7}\\u{1b}[2J\n  onnx-mipp: done\\u{9b}31m\\u{7f}\\u{202e}b";
        assert_eq!(message(EVIL), shown);
        assert!(page(EVIL).contains("\\r\nonnx-mipp"));
    }

    #[test]
    fn names_of_any_script_stay_as_they_are() {
        for text in ["/layer1/conv.0", "größe", "層 1", "слой", "🙂", ""] {
            assert!(matches!(line(text), Cow::Borrowed(same) if same == text));
            assert!(matches!(message(text), Cow::Borrowed(same) if same == text));
        }
    }

    #[test]
    fn json_says_the_same() {
        let text = serde_json::to_string(EVIL).unwrap();
        let escaped = json(&text);
        assert!(!escaped.contains(is_hidden));
        assert_eq!(serde_json::from_str::<String>(&escaped).unwrap(), EVIL);
    }

    #[test]
    fn overlong_messages_are_cut() {
        let long = "ä".repeat(LONGEST + 7);
        assert!(message(&long).ends_with("ää ... (14 bytes more)"));
    }
}
