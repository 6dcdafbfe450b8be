//! What is known of a task's function before any call of it: name, version, fingerprint.

/// How often a task may start again when nobody said: a task that is safe to run twice survives two engines.
const LOSSES_OF_IDEMPOTENT: u16 = 2;

/// The function behind a task: what an engine needs to find it, and a peer to know that both mean the same.
///
/// ```
/// use callboard::{Task, task};
///
/// #[task(name = "geometry::square", version = 2, idempotent)]
/// fn square(x: u64) -> u64 { x * x }
///
/// let kind = square::kind();
/// assert_eq!((kind.name, kind.short_name(), kind.version), ("geometry::square", "square", 2));
/// assert!(kind.idempotent && kind.portable);
/// ```
#[derive(Debug, PartialEq, Eq)]
pub struct TaskKind {
    /// Full name, by default `crate::module::function`.
    pub name: &'static str,
    /// Version given by the author, 1 by default.
    pub version: u32,
    /// [`key_of`] the name and the version: what stands for the function on the wire.
    pub key: u64,
    /// [`fingerprint`] of name, version and signature: differs where two programs disagree on the arguments.
    pub fingerprint: u64,
    /// Whether running it twice is as good as running it once.
    pub idempotent: bool,
    /// Whether it can leave this process; closures cannot.
    pub portable: bool,
}

impl TaskKind {
    /// Returns the last segment of the name: `norm` for `linalg::dense::norm`.
    pub fn short_name(&self) -> &'static str {
        self.name.rsplit("::").next().unwrap_or(self.name)
    }

    /// Returns how many engines it may cost, where nobody said.
    pub(crate) fn usual_losses(&self) -> u16 {
        if self.idempotent { LOSSES_OF_IDEMPOTENT } else { 0 }
    }
}

/// Returns the key of a task: FNV-1a over `name@version`.
///
/// ```
/// use callboard::task::key_of;
///
/// const SQUARE: u64 = key_of("geometry::square", 1);
/// assert_ne!(SQUARE, key_of("geometry::square", 2));
/// ```
pub const fn key_of(name: &str, version: u32) -> u64 {
    fnv1a(fnv1a(fnv1a(FNV_OFFSET, name.as_bytes()), b"@"), &version.to_le_bytes())
}

/// Returns the fingerprint of a task: FNV-1a over name, version and signature as written.
///
/// ```
/// use callboard::task::fingerprint;
///
/// let ours = fingerprint("geometry::square", 1, "(x: u64) -> u64");
/// assert_ne!(ours, fingerprint("geometry::square", 1, "(x: u32) -> u64"));
/// ```
pub const fn fingerprint(name: &str, version: u32, signature: &str) -> u64 {
    fnv1a(fnv1a(key_of(name, version), b"|"), signature.as_bytes())
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;

const fn fnv1a(mut hash: u64, bytes: &[u8]) -> u64 {
    let mut i = 0;
    while i < bytes.len() {
        hash = (hash ^ bytes[i] as u64).wrapping_mul(0x0000_0100_0000_01b3);
        i += 1;
    }
    hash
}
