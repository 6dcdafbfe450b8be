//! Items of a map as bytes: the calls on their way to another process, and what they returned on the way back.
//!
//! Each item is its length in 4 bytes, little-endian, then the item. So one that cannot be read spoils no other, and
//! many are cut in two without being read.

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::mem;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};
use parking_lot::Mutex;
use serde::Serialize;

use super::{
    ChunkRest, ChunkRun, ErasedTask, ErasedValue, ItemEvents, Status, Task, TaskContext, TaskFailure, TaskKind, Value,
    WireCall, WireValue, beside, beside_from,
};
use crate::error::{Coded, TaskError};
use crate::limits::BLOBS_MAX;

/// Bytes before each item.
const LENGTH_BYTES: usize = 4;

/// Appends an item.
///
/// # Errors
/// Where it cannot be encoded. Then nothing is appended, nor where its `Serialize` panics once `to` is cut back.
pub(super) fn put(to: &mut Vec<u8>, item: &impl Serialize) -> Result<(), postcard::Error> {
    let start = to.len();
    to.put_u32_le(0);
    let encoded = postcard::to_io(item, &mut *to).map(drop);
    let length = u32::try_from(to.len() - start - LENGTH_BYTES).map_err(|_| postcard::Error::SerializeBufferFull);
    match encoded.and(length) {
        Ok(length) => to[start..start + LENGTH_BYTES].copy_from_slice(&length.to_le_bytes()),
        Err(error) => {
            to.truncate(start);
            return Err(error);
        }
    }
    Ok(())
}

/// Takes the first item out; `None` if there is no whole one.
fn take(from: &mut Bytes) -> Option<Bytes> {
    let length = from.get(..LENGTH_BYTES)?.get_u32_le() as usize;
    if from.len() - LENGTH_BYTES < length {
        return None;
    }
    from.advance(LENGTH_BYTES);
    Some(from.split_to(length))
}

/// Returns how many bytes the first `count` items are; `None` if there are not that many.
fn bytes_of(items: &[u8], count: u32) -> Option<usize> {
    (0..count).try_fold(0_usize, |at, _| {
        let length = items.get(at..at + LENGTH_BYTES)?.get_u32_le() as usize;
        Some(at + LENGTH_BYTES + length).filter(|&end| end <= items.len())
    })
}

/// Calls of one function that came as bytes. Each is read when its turn comes.
pub(crate) struct EncodedCalls<T> {
    rest: Arc<Rest<T>>,
    count: u32,
}

/// The calls that have not begun. The lock is held to take one out, never while it is read or runs.
struct Rest<T> {
    calls: Mutex<(Bytes, u32)>,
    blobs: Arc<[Bytes]>,
    function: PhantomData<fn() -> T>,
}

impl<T: Task> EncodedCalls<T> {
    /// Takes calls as they came.
    ///
    /// # Errors
    /// Where they are not as many as they should be.
    pub(crate) fn read(call: &WireCall) -> Result<Self, postcard::Error> {
        if bytes_of(&call.inline, call.count) != Some(call.inline.len()) {
            return Err(postcard::Error::DeserializeBadEncoding);
        }
        Ok(Self::of(call.inline.clone(), call.count, call.blobs.clone().into()))
    }

    fn of(calls: Bytes, count: u32, blobs: Arc<[Bytes]>) -> Self {
        Self { rest: Arc::new(Rest { calls: Mutex::new((calls, count)), blobs, function: PhantomData }), count }
    }
}

impl<T: Task> ErasedTask for EncodedCalls<T> {
    fn kind(&self) -> &'static TaskKind {
        T::kind()
    }

    fn run(self: Box<Self>, _: &TaskContext) -> Result<Value, TaskFailure> {
        Err(TaskFailure::new("several calls are made one after the other"))
    }

    fn try_clone(&self) -> Option<Box<dyn ErasedTask>> {
        let (calls, count) = self.rest.calls.lock().clone();
        Some(Box::new(Self::of(calls, count, self.rest.blobs.clone())))
    }

    fn encode(&self) -> Option<Result<WireCall, postcard::Error>> {
        let (inline, count) = self.rest.calls.lock().clone();
        Some(Ok(WireCall { key: T::kind().key, count, inline, blobs: self.rest.blobs.to_vec() }))
    }

    fn needs_drop(&self) -> bool {
        false
    }

    fn count(&self) -> u32 {
        self.count
    }

    fn as_chunk(&mut self) -> Option<Box<dyn ChunkRun>> {
        Some(Box::new(Working {
            rest: self.rest.clone(),
            values: Vec::new(),
            blobs: Vec::new(),
            begun: (0, 0),
            done: 0,
            errors: Vec::new(),
        }))
    }
}

/// Calls at work, whose values are encoded one by one.
struct Working<T> {
    rest: Arc<Rest<T>>,
    values: Vec<u8>,
    blobs: Vec<Bytes>,
    /// Where in the values and blobs the item that is being made begins.
    begun: (usize, usize),
    done: u32,
    errors: Vec<(u32, TaskError)>,
}

impl<T: Task> Working<T> {
    fn make(&mut self, call: &Bytes, cx: &TaskContext, events: &dyn ItemEvents) -> Result<(), TaskError> {
        let undecodable = |what, error: postcard::Error| TaskError::undecodable(what, T::NAME, &error.to_string());
        let task = match beside_from(&self.rest.blobs, || postcard::take_from_bytes::<T>(call)) {
            Ok((task, [])) => task,
            Ok(_) => return Err(undecodable(Coded::Arguments, postcard::Error::DeserializeBadEncoding)),
            Err(error) => return Err(undecodable(Coded::Arguments, error)),
        };
        let value = task.run(cx).map_err(|failure| events.failed(cx, failure))?;
        // So many that they go beside, and those of later items where they are.
        let is_room = self.blobs.len() < BLOBS_MAX / 2;
        let put = if is_room {
            beside(&mut self.blobs, || put(&mut self.values, &value))
        } else {
            put(&mut self.values, &value)
        };
        put.map_err(|error| undecodable(Coded::Result, error))
    }

    fn end(&mut self, ended: Result<(), TaskError>, cx: &mut TaskContext) {
        if let Err(error) = ended {
            // Whatever was written of a value whose `Serialize` panicked.
            self.values.truncate(self.begun.0);
            self.blobs.truncate(self.begun.1);
            self.values.put_u32_le(0);
            self.errors.push((self.done, error));
        }
        self.begun = (self.values.len(), self.blobs.len());
        self.done += 1;
        cx.task = cx.task.plus(1);
    }
}

impl<T: Task> ChunkRun for Working<T> {
    fn run(&mut self, cx: &mut TaskContext, events: &dyn ItemEvents) {
        loop {
            let call = {
                let (calls, count) = &mut *self.rest.calls.lock();
                *count = count.saturating_sub(1);
                take(calls)
            };
            let Some(call) = call else { return };
            events.begins(cx);
            let made = self.make(&call, cx, events);
            self.end(made, cx);
        }
    }

    fn on_panic(&mut self, cx: &mut TaskContext, error: TaskError) {
        self.end(Err(error), cx);
    }

    fn rest(&self) -> Arc<dyn ChunkRest> {
        self.rest.clone()
    }

    fn finish(self: Box<Self>) -> (u32, Value) {
        let Self { values, blobs, done: count, errors, .. } = *self;
        let values = EncodedValues { values: values.into(), blobs: blobs.into(), count, errors };
        (count, Value::Typed(Box::new(values)))
    }
}

impl<T: Task> ChunkRest for Rest<T> {
    fn take(&self) -> Option<(u32, Box<dyn ErasedTask>)> {
        let (calls, count) = mem::take(&mut *self.calls.lock());
        (count > 0)
            .then(|| (count, Box::new(EncodedCalls::<T>::of(calls, count, self.blobs.clone())) as Box<dyn ErasedTask>))
    }
}

/// What several calls returned in another process, in order. Read by whoever knows the type.
#[derive(Debug)]
pub(crate) struct EncodedValues {
    /// An item each; an empty one where there is no value.
    values: Bytes,
    /// What is beside them, of all items.
    blobs: Arc<[Bytes]>,
    count: u32,
    /// Why there is none, by place, in order.
    errors: Vec<(u32, TaskError)>,
}

#[cfg_attr(not(feature = "remote"), expect(dead_code, reason = "nothing comes from elsewhere"))]
impl EncodedValues {
    /// Takes values as they came; `None` if they are not `count`, or the errors are not in order.
    pub(crate) fn new(value: WireValue, count: u32, errors: Vec<(u32, TaskError)>) -> Option<Self> {
        let WireValue { inline: values, blobs } = value;
        let are_whole = bytes_of(&values, count) == Some(values.len());
        let in_order = errors.is_sorted_by(|a, b| a.0 < b.0) && errors.last().is_none_or(|last| last.0 < count);
        (are_whole && in_order).then(|| Self { values, blobs: blobs.into(), count, errors })
    }

    /// Returns the values, and why there is none at some places.
    pub(crate) fn into_parts(self) -> (WireValue, Vec<(u32, TaskError)>) {
        (WireValue { inline: self.values, blobs: self.blobs.to_vec() }, self.errors)
    }

    pub(crate) fn len(&self) -> u32 {
        self.count
    }

    /// Returns how the item at this place ended.
    pub(crate) fn status(&self, at: u32) -> Status {
        let error =
            self.errors.binary_search_by_key(&at, |(failed, _)| *failed).ok().map(|found| &self.errors[found].1);
        error.map_or(Status::Done, TaskError::status)
    }

    /// Returns how many have no value.
    pub(crate) fn failures(&self) -> u32 {
        self.errors.len() as u32
    }

    /// Takes the items apart, unread.
    pub(crate) fn into_items(self) -> impl Iterator<Item = Result<WireValue, TaskError>> {
        let Self { mut values, blobs, count, errors } = self;
        let mut errors = errors.into_iter().peekable();
        (0..count).map(move |at| {
            let inline = take(&mut values).unwrap_or_default();
            match errors.next_if(|(failed, _)| *failed == at) {
                Some((_, error)) => Err(error),
                None => Ok(WireValue { inline, blobs: blobs.to_vec() }),
            }
        })
    }

    /// Reads each value. Runs the user's `Deserialize`, behind `catch` if `read` does.
    pub(crate) fn read<T>(self, read: impl Fn(&WireValue) -> Result<T, TaskError>) -> Vec<Result<T, TaskError>> {
        self.into_items().map(|item| item.and_then(|value| read(&value))).collect()
    }
}

impl ErasedValue for EncodedValues {
    fn encode(&self) -> Option<Result<WireValue, postcard::Error>> {
        None
    }

    fn needs_drop(&self) -> bool {
        false
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any + Send> {
        self
    }

    fn split_front(&mut self, count: u32) -> Option<Box<dyn ErasedValue>> {
        if count >= self.count {
            return None;
        }
        let values = self.values.split_to(bytes_of(&self.values, count)?);
        let from = self.errors.partition_point(|(at, _)| *at < count);
        let behind = self.errors.split_off(from).into_iter().map(|(at, error)| (at - count, error)).collect();
        let errors = mem::replace(&mut self.errors, behind);
        self.count -= count;
        Some(Box::new(Self { values, blobs: self.blobs.clone(), count, errors }))
    }

    fn failed(&self) -> Option<Status> {
        self.errors.first().map(|(_, error)| error.status())
    }

    fn ends(&self) -> Vec<(Status, u32)> {
        let mut ends: Vec<(Status, u32)> = Vec::new();
        let mut add = |status, n| match ends.last_mut() {
            Some((last, count)) if *last == status => *count += n,
            _ if n > 0 => ends.push((status, n)),
            _ => {}
        };
        let mut next = 0;
        for (at, error) in &self.errors {
            add(Status::Done, at - next);
            add(error.status(), 1);
            next = at + 1;
        }
        if next > 0 {
            add(Status::Done, self.count - next);
        }
        ends
    }
}

impl<T> fmt::Debug for EncodedCalls<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EncodedCalls({})", self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catch;
    use crate::task::{Chunk, TaskId};

    #[derive(Clone, serde::Serialize, serde::Deserialize)]
    struct Halve(u32);

    /// A value whose encoding fails, or panics halfway.
    #[derive(serde::Deserialize)]
    struct Half(u32);

    impl Serialize for Half {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            use serde::ser::{Error, SerializeTuple};
            let mut pair = serializer.serialize_tuple(2)?;
            pair.serialize_element(&self.0)?;
            match self.0 {
                50 => panic!("fifty"),
                51 => return Err(S::Error::custom("fifty-one")),
                _ => pair.serialize_element(&self.0)?,
            }
            pair.end()
        }
    }

    impl Task for Halve {
        type Output = Half;
        const NAME: &'static str = "encoded::Halve";
        fn run(self, _: &TaskContext) -> Result<Half, TaskFailure> {
            match self.0 {
                13 => panic!("thirteen"),
                odd if odd % 2 == 1 => Err(TaskFailure::new("odd")),
                even => Ok(Half(even / 2)),
            }
        }
    }

    #[derive(Default)]
    struct Noted(Mutex<Vec<u64>>);

    impl ItemEvents for Noted {
        fn begins(&self, cx: &TaskContext) {
            self.0.lock().push(cx.task.seq);
        }

        fn failed(&self, _: &TaskContext, failure: TaskFailure) -> TaskError {
            TaskError::Cancelled { reason: failure.text().into() }
        }
    }

    /// Makes calls as an engine of another process does; returns what came back, and the tasks that began.
    fn over_the_wire(calls: &[u32]) -> (EncodedValues, Vec<u64>) {
        let call = Chunk::new(calls.iter().map(|&x| Halve(x))).encode().unwrap().unwrap();
        let mut run = EncodedCalls::<Halve>::read(&call).unwrap().as_chunk().unwrap();
        let (mut cx, noted) = (TaskContext::here(), Noted::default());
        cx.task = TaskId { client: 1, seq: 100 };
        while let Err(message) = catch::user_code(|| run.run(&mut cx, &noted)) {
            run.on_panic(&mut cx, TaskError::Cancelled { reason: message });
        }
        let (count, value) = run.finish();
        let Value::Typed(value) = value else { unreachable!("it is made here") };
        let values = value.into_any().downcast::<EncodedValues>().unwrap();
        assert_eq!(values.len(), count);
        (*values, noted.0.into_inner())
    }

    fn read(values: EncodedValues) -> Vec<Result<u32, String>> {
        let pair = |value: &WireValue| Ok(postcard::from_bytes::<(u32, u32)>(&value.inline).unwrap().1);
        values.read(pair).into_iter().map(|result| result.map_err(|error| error.to_string())).collect()
    }

    #[test]
    fn each_item_has_its_own_outcome_whatever_goes_wrong_with_others() {
        let (values, begun) = over_the_wire(&[4, 5, 13, 100, 102, 8]);
        assert_eq!(begun, (100..106).collect::<Vec<_>>());
        let results = read(values);
        assert_eq!((&results[0], &results[5]), (&Ok(2), &Ok(4)));
        assert_eq!(results[1], Err("cancelled: odd".into()));
        assert_eq!(results[2], Err("cancelled: thirteen".into()));
        assert_eq!(results[3], Err("cancelled: fifty".into()));
        assert!(results[4].as_ref().is_err_and(|text| text.contains("encoded::Halve")), "{:?}", results[4]);
    }

    #[test]
    fn values_are_cut_at_any_place_and_each_part_knows_how_its_items_ended() {
        let calls = [4, 5, 7, 8, 10, 11];
        let (whole, _) = over_the_wire(&calls);
        let (failed, done) = (Status::Cancelled, Status::Done);
        assert_eq!(whole.ends(), [(done, 1), (failed, 2), (done, 2), (failed, 1)]);
        let outcomes = read(whole);
        for cut in 1..6 {
            let (mut back, _) = over_the_wire(&calls);
            assert!(back.split_front(6).is_none(), "that is all of it");
            let front = back.split_front(cut).unwrap().into_any().downcast::<EncodedValues>().unwrap();
            assert_eq!((front.len(), back.len()), (cut, 6 - cut));
            assert_eq!(front.failed().is_some(), cut > 1);
            assert_eq!([read(*front), read(back)].concat(), outcomes);
        }
        assert!(over_the_wire(&[2, 4]).0.ends().is_empty(), "all have a value");
    }

    #[test]
    fn what_has_not_begun_is_taken_back_with_its_calls() {
        let call = Chunk::new((0..5).map(|x| Halve(2 * x))).encode().unwrap().unwrap();
        let mut run = EncodedCalls::<Halve>::read(&call).unwrap().as_chunk().unwrap();
        let (count, taken) = run.rest().take().expect("nothing has begun");
        assert_eq!((count, taken.count()), (5, 5));
        assert_eq!(taken.encode().unwrap().unwrap(), call);
        run.run(&mut TaskContext::here(), &Noted::default());
        assert_eq!(run.finish().0, 0);
    }

    #[test]
    fn calls_and_values_that_are_not_as_many_as_they_say_are_refused() {
        let call = Chunk::new((0..3).map(Halve)).encode().unwrap().unwrap();
        let value = |call: &WireCall| WireValue { inline: call.inline.clone(), blobs: Vec::new() };
        for count in [0, 1, 2, 4, u32::MAX] {
            assert!(EncodedCalls::<Halve>::read(&WireCall { count, ..call.clone() }).is_err(), "{count}");
            assert!(EncodedValues::new(value(&call), count, Vec::new()).is_none(), "{count}");
        }
        let cut = call.inline.slice(..call.inline.len() - 1);
        assert!(EncodedCalls::<Halve>::read(&WireCall { inline: cut, ..call.clone() }).is_err());
        let error = |at| (at, TaskError::NoEngines);
        assert!(EncodedValues::new(value(&call), 3, vec![error(0), error(2)]).is_some());
        assert!(EncodedValues::new(value(&call), 3, vec![error(2), error(0)]).is_none());
        assert!(EncodedValues::new(value(&call), 3, vec![error(3)]).is_none());
    }
}
