//! Calls on their way out: encoded, items of a map together, or refused where that cannot be.

use crate::catch::user_code;
use crate::error::{Coded, TaskError};
use crate::ledger::Assignment;
use crate::messages::Completion;
use crate::task::{ErasedTask, Payload, TaskKind, WireCall, beside, check_size};
use crate::wire::protocol::{Call, Parcel};

/// What goes out together.
#[derive(Default)]
pub(super) struct Calls {
    pub(super) parcel: Parcel<Call>,
    pub(super) refused: Vec<Completion>,
}

/// Encodes a call. Runs the user's `Serialize`.
pub(super) fn encoded(payload: &Payload) -> Result<(&'static TaskKind, WireCall), TaskError> {
    let task: &dyn ErasedTask = match payload {
        // Given up on the way, at least some: the result store waits for it no more.
        Payload::Typed(task) if task.live() < task.count() => return Err(TaskError::Disconnected),
        Payload::Typed(task) => &**task,
        Payload::Wire(_) => return Err(TaskError::NotPortable),
    };
    let kind = task.kind();
    let undecodable = |reason: &str| TaskError::undecodable(Coded::Arguments, kind.name, reason);
    let mut blobs = Vec::new();
    let call = match user_code(|| beside(&mut blobs, || task.encode())) {
        Ok(Some(Ok(call))) => WireCall { blobs, ..call },
        Ok(None) => return Err(TaskError::NotPortable),
        Ok(Some(Err(error))) => return Err(undecodable(&error.to_string())),
        Err(message) => return Err(undecodable(&message)),
    };
    check_size(&call.inline, call.count, &call.blobs).map_err(|reason| undecodable(&reason))?;
    Ok((kind, call))
}

/// Takes items of a map apart.
pub(super) fn items(assignment: Assignment) -> Vec<Assignment> {
    let Assignment { mut id, attempt, may_retry, payload: mut rest, extras } = assignment;
    let mut items = Vec::with_capacity(rest.count() as usize);
    while let Some(payload) = rest.split_front(1) {
        items.push(Assignment { id, attempt, may_retry, payload, extras: extras.clone() });
        id = id.plus(1);
    }
    items.push(Assignment { id, attempt, may_retry, payload: rest, extras });
    items
}
