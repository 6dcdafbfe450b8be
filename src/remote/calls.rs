//! Calls on their way out: encoded, items of a map together, or refused where that cannot be.

use std::sync::Arc;

use crate::catch::user_code;
use crate::error::{Coded, TaskError};
use crate::ledger::HandBack;
use crate::messages::Completion;
use crate::task::{ErasedTask, ItemWriter, Payload, Relayed, TaskId, TaskKind, WireCall, beside, check_size};
use crate::wire::protocol::{Call, Parcel};

/// What goes out together, and what does not go.
#[derive(Default)]
pub(super) struct Calls {
    pub(super) parcel: Parcel<Call>,
    /// They cannot be encoded.
    pub(super) refused: Vec<Completion>,
    /// Too many for one message.
    pub(super) back: Vec<HandBack>,
    /// They were encoded, and are kept as bytes.
    pub(super) used: Vec<Payload>,
}

/// Items of a map that cannot be encoded, and why. They keep their places among the others, as nothing, so that what the
/// Scheduler sent as one comes back as one.
pub(super) type Unencodable = Arc<[(TaskId, TaskError)]>;

/// A call that is ready to go.
pub(super) struct Ready {
    pub(super) kind: &'static TaskKind,
    /// The first of the calls, as many as go together.
    pub(super) call: WireCall,
    pub(super) unencodable: Unencodable,
}

/// Encodes calls. Runs the user's `Serialize`.
pub(super) fn encoded(first: TaskId, payload: &Payload) -> Result<Ready, TaskError> {
    match payload {
        Payload::Typed(task) if task.count() > 1 => Ok(together(first, &**task)),
        Payload::Typed(task) => alone(&**task),
        Payload::Wire(_) => Err(TaskError::NotPortable),
    }
}

/// A task, or the first of several, their number, and what is to go out.
type Encoded = (TaskId, u32, Result<Ready, TaskError>);

/// Encodes all of a call: many items as so many calls as they take. Returns each with its first task and their number;
/// what is split off to be encoded is put with what is used. What cannot be encoded does not travel, not even as nothing.
pub(super) fn encoded_all(id: TaskId, payload: &mut Payload, used: &mut Vec<Payload>) -> Vec<Encoded> {
    let (mut first, mut all) = (id, Vec::new());
    loop {
        let mut ready = encoded(first, payload);
        let together = ready.as_ref().map_or(payload.count(), |ready| ready.call.count);
        let front = payload.split_front(together);
        if let (1, Some(alone)) = (together, &front) {
            // By itself it is encoded in another way.
            ready = encoded(first, alone);
        }
        match ready {
            Ok(ready) => put_encodable(first, ready, &mut all),
            Err(error) => all.push((first, together, Err(error))),
        }
        let Some(front) = front else { return all };
        used.push(front);
        first = first.plus(together);
    }
}

/// Puts a call with the others: as several, where there are items between that cannot be encoded.
fn put_encodable(mut first: TaskId, ready: Ready, all: &mut Vec<Encoded>) {
    if ready.unencodable.is_empty() {
        return all.push((first, ready.call.count, Ok(ready)));
    }
    let Ready { kind, call, unencodable } = ready;
    let mut rest = Relayed::new(kind, call).expect("they were written as what they are read as");
    let mut put = |first, task: &mut dyn ErasedTask| {
        let call = task.to_wire().expect("it is bytes");
        all.push((first, call.count, Ok(Ready { kind, call, unencodable: Arc::default() })));
    };
    for (id, _) in unencodable.iter() {
        let before = (id.seq - first.seq) as u32;
        if before > 0 {
            let mut front = rest.split_front(before).expect("it has that one, too");
            put(first, &mut *front);
        }
        first = id.plus(1);
        if rest.split_front(1).is_none() {
            break;
        }
    }
    if rest.live() > 0 {
        put(first, &mut rest);
    }
    all.extend(unencodable.iter().map(|(id, error)| (*id, 1, Err(error.clone()))));
}

fn alone(task: &dyn ErasedTask) -> Result<Ready, TaskError> {
    if task.live() == 0 {
        // Given up on the way: the result store waits for it no more.
        return Err(TaskError::Disconnected);
    }
    let (kind, mut blobs) = (task.kind(), Vec::new());
    let call = match user_code(|| beside(&mut blobs, || task.encode())) {
        Ok(Some(Ok(call))) => WireCall { blobs, ..call },
        Ok(None) => return Err(TaskError::NotPortable),
        Ok(Some(Err(error))) => return Err(unencodable(kind, &error.to_string())),
        Err(message) => return Err(unencodable(kind, &message)),
    };
    check_size(call.inline.len(), &call.blobs).map_err(|reason| unencodable(kind, &reason))?;
    Ok(Ready { kind, call, unencodable: Arc::default() })
}

fn together(first: TaskId, task: &dyn ErasedTask) -> Ready {
    let (kind, mut items, mut refused) = (task.kind(), ItemWriter::default(), Vec::new());
    while items.count() < task.count() && !items.is_full() {
        let at = items.count();
        let put = user_code(|| items.put(|to| task.encode_item(at, to)));
        if let Err(reason) = put.and_then(|put| put) {
            refused.push((first.plus(at), unencodable(kind, &reason)));
            items.put_nothing();
        }
    }
    let count = items.count();
    let (inline, blobs) = items.finish();
    Ready { kind, call: WireCall { key: kind.key, count, inline, blobs }, unencodable: refused.into() }
}

fn unencodable(kind: &TaskKind, reason: &str) -> TaskError {
    TaskError::undecodable(Coded::Arguments, kind.name, reason)
}

#[cfg(test)]
mod tests {
    use serde::{Serialize, Serializer};

    use super::*;
    use crate::Task;
    use crate::task::{Chunk, TaskContext, TaskFailure};

    /// A task whose arguments may fail to be encoded, panic meanwhile, or be too many.
    #[derive(Clone, serde::Deserialize)]
    struct Odd(u32);

    impl Serialize for Odd {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            match self.0 {
                1 => Err(serde::ser::Error::custom("one")),
                2 => panic!("two"),
                3 => serializer.serialize_bytes(&vec![0; 9 << 20]),
                4 => serializer.serialize_bytes(&vec![0; 7 << 20]),
                number => serializer.serialize_u32(number),
            }
        }
    }

    impl Task for Odd {
        type Output = ();
        const NAME: &'static str = "calls::Odd";
        fn run(self, _: &TaskContext) -> Result<(), TaskFailure> {
            Ok(())
        }
    }

    fn encoded_odd(numbers: &[u32]) -> Result<(u32, Vec<(u64, String)>), TaskError> {
        let payload = Payload::Typed(Box::new(Chunk::new(numbers.iter().map(|number| Odd(*number)))));
        let Ready { call, unencodable, .. } = encoded(TaskId { client: 7, seq: 10 }, &payload)?;
        Ok((call.count, unencodable.iter().map(|(id, error)| (id.seq, error.to_string())).collect()))
    }

    #[test]
    fn what_cannot_be_encoded_spoils_no_other_and_is_told_by_its_id() {
        let (count, refused) = encoded_odd(&[5, 1, 6, 2, 3, 7]).unwrap();
        assert_eq!((count, refused.iter().map(|(seq, _)| *seq).collect::<Vec<_>>()), (6, vec![11, 13, 14]));
        let told = ["Serde Serialization Error", "two", "put large ones into a Blob"];
        for ((_, error), told) in refused.iter().zip(told) {
            assert!(error.contains(told) && error.contains("calls::Odd"), "{error}");
        }
        for alone in 1..=3 {
            assert!(matches!(encoded_odd(&[alone]), Err(TaskError::Undecodable { .. })), "{alone}");
        }
        assert_eq!(encoded_odd(&[9]), Ok((1, vec![])));
    }

    #[test]
    fn as_many_go_as_go_together() {
        assert_eq!(encoded_odd(&[4; 12]), Ok((5, vec![])), "of 7 MiB each");
    }

    #[test]
    fn between_a_client_and_a_controller_nothing_travels_as_nothing() {
        let cases = [
            (vec![5, 6, 7], vec![(10, 3)]),
            (vec![5, 1, 6, 7, 2, 3, 8], vec![(10, 1), (12, 2), (16, 1)]),
            (vec![1, 5, 6], vec![(11, 2)]),
            (vec![5, 6, 1], vec![(10, 2)]),
            (vec![1, 1], vec![]),
        ];
        for (numbers, expected) in cases {
            let mut payload = Payload::Typed(Box::new(Chunk::new(numbers.iter().map(|number| Odd(*number)))));
            let (mut went, mut stayed) = (Vec::new(), 0);
            for (first, count, ready) in encoded_all(TaskId { client: 7, seq: 10 }, &mut payload, &mut Vec::new()) {
                let Ok(ready) = ready else {
                    stayed += count;
                    continue;
                };
                let relayed = Relayed::new(ready.kind, ready.call).unwrap();
                assert_eq!((relayed.count(), relayed.live()), (count, count));
                went.push((first.seq, count));
            }
            let all = went.iter().map(|(_, count)| count).sum::<u32>() + stayed;
            assert_eq!((went, all), (expected, numbers.len() as u32));
        }
    }
}
