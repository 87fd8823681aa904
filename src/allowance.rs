//! How much a run may take: one budget of bytes, and one of work that follows from it.
//!
//! A few hundred bytes of a file can ask for any amount: a shape, a kernel, a count of samples, a
//! function that calls another twice. So whoever takes a size from a file asks here before it
//! allocates or loops by it, with a sum that cannot overflow, and what is refused is named with
//! what it asks for. What cannot be known before (kernels of ONNX Runtime, values of shapes that
//! only a run tells) meets the limit that the system holds this process to, see
//! [`Allowance::enforce`]. docs/reference/limits.md lists who asks.

use std::io;

/// Half of the machine's memory is allowed, of this much where the system does not tell.
const UNKNOWN_MACHINE: u64 = 8 << 30;
/// Elements that a batch may read and write in all nodes, per byte that is allowed: minutes, not
/// hours.
const ELEMENTS_PER_BYTE: u64 = 16;
/// Virtual memory of a thread's stack: reserved, and hardly used.
#[cfg(target_os = "linux")]
const STACK: u64 = 10 << 20;

/// Bytes of memory that a run may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// Bytes of the whole process; files that are mapped do not count.
    pub bytes: u64,
}

/// What asked for more than is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{what} {verb} {}, over the limit of {} (`memory_limit`, by default half of the machine's memory); {advice}",
    unit.text(*asked), unit.text(*limit)
)]
pub struct OverLimit {
    /// The node, tensor or file, and what of it.
    pub what: String,
    verb: &'static str,
    unit: Unit,
    asked: u64,
    limit: u64,
    advice: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Bytes,
    Elements,
}

impl Default for Allowance {
    /// Half of what the machine, or the control group of this process, has.
    fn default() -> Self {
        Allowance {
            bytes: machine_bytes().unwrap_or(UNKNOWN_MACHINE) / 2,
        }
    }
}

impl Allowance {
    /// So many megabytes.
    #[must_use]
    pub fn of_megabytes(megabytes: u64) -> Self {
        let bytes = megabytes.saturating_mul(1_000_000);
        Allowance { bytes }
    }

    /// Refuses `asked` bytes beyond the limit.
    ///
    /// # Errors
    /// [`OverLimit`], which names `what` asks, a subject such as "input 'x'", and says what to do.
    pub fn bytes(
        self,
        asked: u64,
        what: impl FnOnce() -> String,
        advice: &'static str,
    ) -> Result<(), OverLimit> {
        self.check((asked, self.bytes), Unit::Bytes, what, advice)
    }

    /// Refuses work of so many elements.
    ///
    /// # Errors
    /// [`OverLimit`], as [`Allowance::bytes`].
    pub fn work(
        self,
        elements: u64,
        what: impl FnOnce() -> String,
        advice: &'static str,
    ) -> Result<(), OverLimit> {
        let limit = self.bytes.saturating_mul(ELEMENTS_PER_BYTE);
        self.check((elements, limit), Unit::Elements, what, advice)
    }

    fn check(
        self,
        (asked, limit): (u64, u64),
        unit: Unit,
        what: impl FnOnce() -> String,
        advice: &'static str,
    ) -> Result<(), OverLimit> {
        if asked <= limit {
            return Ok(());
        }
        Err(OverLimit {
            what: what(),
            verb: match unit {
                Unit::Bytes => "needs",
                Unit::Elements => "works through",
            },
            unit,
            asked,
            limit,
            advice,
        })
    }

    /// Has the system hold this process to the limit, beyond the stacks of its threads: what ONNX
    /// Runtime asks for past it is an error of its run. What this program asks for past it, though
    /// counted, ends the program with the words "memory allocation of N bytes failed": stable Rust
    /// lets nobody say more.
    ///
    /// # Errors
    /// The system refuses.
    #[cfg(target_os = "linux")]
    pub fn enforce(self, threads: usize) -> io::Result<()> {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let old = getrlimit(Resource::Data);
        let stacks = STACK.saturating_mul(u64::try_from(threads).unwrap_or(u64::MAX));
        let asked = self.bytes.saturating_add(stacks);
        let current = [old.current, old.maximum]
            .into_iter()
            .flatten()
            .fold(asked, u64::min);
        let new = Rlimit {
            current: Some(current),
            maximum: old.maximum,
        };
        Ok(setrlimit(Resource::Data, new)?)
    }

    /// Elsewhere the counted limits are all there is.
    ///
    /// # Errors
    /// Never.
    #[cfg(not(target_os = "linux"))]
    pub fn enforce(self, _threads: usize) -> io::Result<()> {
        Ok(())
    }
}

impl Unit {
    /// An amount for people: three digits.
    fn text(self, amount: u64) -> String {
        let units = match self {
            Unit::Bytes => ["bytes", "kB", "MB", "GB", "TB", "PB", "EB"],
            Unit::Elements => [
                "elements",
                "thousand elements",
                "million elements",
                "billion elements",
                "trillion elements",
                "quadrillion elements",
                "quintillion elements",
            ],
        };
        let (mut value, mut place) = (amount as f64, 0);
        while value >= 999.5 && place + 1 < units.len() {
            value /= 1000.0;
            place += 1;
        }
        let more = if amount == u64::MAX { "more than " } else { "" };
        let digits = match value {
            value if place == 0 || value >= 99.95 => 0,
            value if value >= 9.995 => 1,
            _ => 2,
        };
        let unit = units.get(place).copied().unwrap_or_default();
        format!("{more}{value:.digits$} {unit}")
    }
}

/// The product of sizes and `unit`, each size counted as at least one: tensors without elements
/// have axes too, which are walked.
#[must_use]
pub fn spanned(sizes: &[usize], unit: usize) -> u64 {
    let sizes = sizes.iter().chain([&unit]);
    sizes.fold(1_u64, |product, &size| {
        product.saturating_mul(u64::try_from(size.max(1)).unwrap_or(u64::MAX))
    })
}

/// Memory of the machine, or of the control group if that is less.
fn machine_bytes() -> Option<u64> {
    let text = |path: &str| std::fs::read_to_string(path).ok();
    let machine = text("/proc/meminfo").as_deref().and_then(total);
    let groups = text("/proc/self/cgroup").unwrap_or_default();
    let group = own_group(&groups);
    let files = [
        format!("/sys/fs/cgroup{group}/memory.max"),
        "/sys/fs/cgroup/memory.max".to_owned(),
        "/sys/fs/cgroup/memory/memory.limit_in_bytes".to_owned(),
    ];
    let groups = files
        .iter()
        .filter_map(|file| text(file)?.trim().parse().ok());
    machine.into_iter().chain(groups).min()
}

/// The path of this process's group in the one hierarchy of version 2.
fn own_group(groups: &str) -> &str {
    let mut lines = groups.lines();
    let path = lines.find_map(|line| line.strip_prefix("0::"));
    path.filter(|path| *path != "/").unwrap_or_default()
}

/// MemTotal of /proc/meminfo, which is in units of 1024 bytes.
fn total(meminfo: &str) -> Option<u64> {
    let mut lines = meminfo.lines();
    let line = lines.find_map(|line| line.strip_prefix("MemTotal:"))?;
    let number: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    number.checked_mul(1024)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_the_limit_is_named_with_both_amounts() {
        let allowance = Allowance::of_megabytes(2000);
        assert_eq!(allowance.bytes(2_000_000_000, String::new, ""), Ok(()));
        let over = allowance.bytes(68_719_476_736, || "node 'pad'".to_owned(), "mend it");
        let text = over.unwrap_err().to_string();
        assert!(
            text.starts_with("node 'pad' needs 68.7 GB, over the limit of 2.00 GB (`memory_limit`"),
            "{text}"
        );
        assert!(text.ends_with("; mend it"), "{text}");
        let text = allowance.work(u64::MAX, String::new, "").unwrap_err();
        assert!(
            text.to_string()
                .contains("more than 18.4 quintillion elements, over the limit of 32.0 billion"),
            "{text}"
        );
    }

    #[test]
    fn empty_tensors_span_their_axes() {
        assert_eq!(spanned(&[8, 0, 1 << 20], 4), 8 << 22);
        assert_eq!(spanned(&[], 4), 4);
        assert_eq!(spanned(&[usize::MAX, 3], 4), u64::MAX);
    }

    #[test]
    fn memory_is_read_from_the_systems_text() {
        let text = "MemFree: 1 kB\nMemTotal:       16384 kB\n";
        assert_eq!(total(text), Some(16384 * 1024));
        assert_eq!(total("MemTotal: lots"), None);
        assert_eq!(own_group("1:a:/b\n0::/user.slice\n"), "/user.slice");
        assert_eq!(own_group("0::/\n"), "");
    }
}
