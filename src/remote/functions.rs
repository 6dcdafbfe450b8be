//! Functions that a peer names: those of this program, or names that are kept for it.

use std::collections::HashMap;

use parking_lot::Mutex;

use crate::registry::Registry;
use crate::task::{TaskKind, key_of};
use crate::wire::clients::Function;

/// Longest name of a function that is taken from a peer, in bytes: as long as any program has.
const NAME_BYTES_MAX: usize = 256;

/// Functions that peers named and this program has not; with 300 bytes each some 3 MB.
pub(super) const NAMED_MAX: usize = 10_000;

/// They are kept for as long as the program runs: a record may outlive whoever named its function.
static NAMED: Mutex<Option<HashMap<Function, &'static TaskKind>>> = Mutex::new(None);

/// Stands in a record for a function for which there was no room.
pub(super) static UNNAMED: TaskKind =
    TaskKind { name: "(one too many)", version: 0, key: 0, fingerprint: 0, idempotent: false, portable: true };

/// A function that a peer named.
#[derive(Clone, Copy)]
pub(super) struct Named {
    pub(super) kind: &'static TaskKind,
    /// This very program has it.
    pub(super) is_ours: bool,
}

/// Finds what a peer named; `None` where there are too many of them already.
///
/// # Errors
/// A sentence about why it cannot be taken.
pub(super) fn named(function: Function, registry: &Registry) -> Result<Option<Named>, Box<str>> {
    let Function { name, version, fingerprint, is_idempotent } = &function;
    let key = key_of(name, *version);
    if let Some(kind) = registry.kind(key).filter(|kind| kind.fingerprint == *fingerprint) {
        return Ok(Some(Named { kind, is_ours: true }));
    }
    if name.len() > NAME_BYTES_MAX || name.is_empty() || name.chars().any(char::is_control) {
        return Err(format!("a function's name of {} bytes cannot be taken", name.len()).into());
    }
    let mut named = NAMED.lock();
    let named = named.get_or_insert_default();
    if let Some(kind) = named.get(&function) {
        return Ok(Some(Named { kind, is_ours: false }));
    }
    if named.len() >= NAMED_MAX {
        tracing::warn!(NAMED_MAX, "a function is refused: so many were named already that this program has not");
        return Ok(None);
    }
    let kind: &'static TaskKind = Box::leak(Box::new(TaskKind {
        name: Box::leak(name.clone()),
        version: *version,
        key,
        fingerprint: *fingerprint,
        idempotent: *is_idempotent,
        portable: true,
    }));
    named.insert(function, kind);
    Ok(Some(Named { kind, is_ours: false }))
}

/// Names a function to a peer.
pub(super) fn function(kind: &TaskKind) -> Function {
    let TaskKind { name, version, fingerprint, idempotent, .. } = *kind;
    Function { name: name.into(), version, fingerprint, is_idempotent: idempotent }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::Task;

    #[derive(Clone, serde::Serialize, serde::Deserialize)]
    struct Ours;

    impl Task for Ours {
        type Output = ();
        const NAME: &'static str = "functions::Ours";
        fn run(self, _: &crate::TaskContext) -> Result<(), crate::TaskFailure> {
            Ok(())
        }
    }

    #[test]
    fn a_name_is_kept_once_and_what_is_ours_is_ours() {
        let registry = Registry::new().with::<Ours>().unwrap();
        let ours = named(function(Ours::kind()), &registry).unwrap().unwrap();
        assert!(ours.is_ours && std::ptr::eq(ours.kind, Ours::kind()));
        let other = Function { fingerprint: 1, ..function(Ours::kind()) };
        let [first, second] = [(); 2].map(|()| named(other.clone(), &registry).unwrap().unwrap());
        assert!(!first.is_ours && std::ptr::eq(first.kind, second.kind) && first.kind.key == Ours::kind().key);
        for name in ["", "a\nb", &"x".repeat(257)] {
            assert!(named(Function { name: name.into(), ..other.clone() }, &registry).is_err(), "{name:?}");
        }
    }
}
