//! Items of a map as bytes: the calls on their way to another process, and what they returned on the way back.

mod calls;
mod items;
mod item_writer;
mod relayed;
mod values;

pub(crate) use calls::EncodedCalls;
#[cfg(any(feature = "remote", test))]
pub(crate) use item_writer::ItemWriter;
#[cfg(any(feature = "remote", test))]
pub(crate) use relayed::Relayed;
pub(crate) use values::EncodedValues;

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;
    use serde::Serialize;

    use super::*;
    use crate::catch;
    use crate::error::TaskError;
    use crate::task::{
        Chunk, ErasedTask, ErasedValue, ItemEvents, Status, Task, TaskContext, TaskFailure, TaskId, Value, WireCall,
        WireValue,
    };

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

    /// Encodes calls as a gateway does; those of which there is none are nothing.
    fn encoded(calls: &[Option<u32>]) -> WireCall {
        let mut chunk = Chunk::new(calls.iter().map(|x| Halve(x.unwrap_or_default())));
        for (at, _) in (0..).zip(calls).filter(|(_, call)| call.is_none()) {
            assert!(chunk.punch(at, 1).is_some());
        }
        let mut items = ItemWriter::default();
        (0..chunk.count()).for_each(|at| items.put(|to| chunk.encode_item(at, to)).unwrap());
        let (inline, blobs) = items.finish();
        WireCall { key: Halve::kind().key, count: chunk.count(), inline, blobs }
    }

    fn all(calls: impl IntoIterator<Item = u32>) -> WireCall {
        encoded(&calls.into_iter().map(Some).collect::<Vec<_>>())
    }

    /// Makes calls as an engine of another process does; returns what came back, and the tasks that began.
    fn over_the_wire(call: &WireCall) -> (EncodedValues, Vec<u64>) {
        let mut run = EncodedCalls::<Halve>::read(call).unwrap().as_chunk().unwrap();
        let (mut cx, noted) = (TaskContext::here(), Noted::default());
        cx.task = TaskId { client: 1, seq: 100 };
        while let Err(message) = catch::user_code(|| run.run(&mut cx, &noted)) {
            run.on_panic(&mut cx, TaskError::Cancelled { reason: message });
        }
        let (count, value, rest) = run.finish();
        assert!(rest.is_none(), "it came to the end");
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
        let (values, begun) = over_the_wire(&all([4, 5, 13, 100, 102, 8]));
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
        let (whole, _) = over_the_wire(&all(calls));
        let (failed, done) = (Status::Cancelled, Status::Done);
        assert_eq!(whole.ends(), [(done, 1), (failed, 2), (done, 2), (failed, 1)]);
        let outcomes = read(whole);
        for cut in 1..6 {
            let (mut back, _) = over_the_wire(&all(calls));
            assert!(back.split_front(6).is_none(), "that is all of it");
            let front = back.split_front(cut).unwrap().into_any().downcast::<EncodedValues>().unwrap();
            assert_eq!((front.len(), back.len()), (cut, 6 - cut));
            assert_eq!(front.failed().is_some(), cut > 1);
            assert_eq!([read(*front), read(back)].concat(), outcomes);
        }
        assert!(over_the_wire(&all([2, 4])).0.ends().is_empty(), "all have a value");
    }

    #[test]
    fn what_has_not_begun_is_taken_back_with_its_calls() {
        let call = all((0..5).map(|x| 2 * x));
        let mut run = EncodedCalls::<Halve>::read(&call).unwrap().as_chunk().unwrap();
        let (count, mut taken) = run.rest().take().expect("nothing has begun");
        assert_eq!((count, taken.count()), (5, 5));
        run.run(&mut TaskContext::here(), &Noted::default());
        assert_eq!(run.finish().0, 0);
        // It may go on to another process, so it is as it came.
        let again = taken.to_wire().unwrap();
        assert_eq!(again, call);
        let mut again = EncodedCalls::<Halve>::read(&again).unwrap().as_chunk().unwrap();
        again.run(&mut TaskContext::here(), &Noted::default());
        assert_eq!(again.finish().0, 5);
    }

    #[test]
    fn calls_and_values_that_are_not_as_many_as_they_say_are_refused() {
        let call = encoded(&[Some(0), None, Some(2)]);
        let value = |call: &WireCall| WireValue { inline: call.inline.clone(), blobs: Vec::new() };
        for count in [0, 1, 2, 4, u32::MAX] {
            assert!(EncodedCalls::<Halve>::read(&WireCall { count, ..call.clone() }).is_err(), "{count}");
            assert!(EncodedValues::new(value(&call), count, Vec::new()).is_none(), "{count}");
        }
        let cut = call.inline.slice(..call.inline.len() - 1);
        assert!(EncodedCalls::<Halve>::read(&WireCall { inline: cut, ..call.clone() }).is_err());
        let error = |at| (at, TaskError::NoEngines);
        assert!(EncodedValues::new(value(&call), 3, vec![error(1)]).is_some());
        for wrong in [&[][..], &[0], &[0, 1], &[1, 1], &[1, 3]] {
            assert!(EncodedValues::new(value(&call), 3, wrong.iter().copied().map(error).collect()).is_none());
        }
    }

    #[test]
    fn calls_that_there_are_not_keep_their_places_and_run_nothing() {
        let (values, begun) = over_the_wire(&encoded(&[None, Some(4), None, None, Some(6)]));
        assert_eq!(begun, [101, 104]);
        let results = read(values);
        assert_eq!((&results[1], &results[4]), (&Ok(2), &Ok(3)));
        assert!([0, 2, 3].iter().all(|at| results[*at].is_err()));
    }

    #[test]
    fn calls_that_are_handed_on_are_what_they_were_however_they_are_cut() {
        let calls = [Some(4), None, Some(6), Some(13), Some(8)];
        let relayed = || Relayed::new(Halve::kind(), encoded(&calls)).unwrap();
        let outcomes = |mut task: Box<dyn ErasedTask>| {
            let mut call = task.to_wire().unwrap();
            if call.count == 1 && task.live() == 1 {
                // By itself it is encoded in another way.
                call = all([postcard::from_bytes::<u32>(&call.inline).unwrap()]);
            }
            read(over_the_wire(&call).0)
        };
        let whole = outcomes(Box::new(relayed()));
        for cut in 1..5 {
            let mut back = relayed();
            let front = back.split_front(cut).unwrap();
            assert_eq!((front.count(), back.count(), front.live() + back.live()), (cut, 5 - cut, 4));
            assert_eq!([outcomes(front), outcomes(Box::new(back))].concat(), whole, "{cut}");
        }
        let (mut punched, clone) = (relayed(), relayed().try_clone().unwrap());
        assert!(punched.split_front(5).is_none() && punched.punch(1, 1).is_none(), "there is nothing in that place");
        let taken = punched.punch(2, 2).unwrap();
        assert_eq!((taken.live(), punched.live(), punched.count()), (2, 2, 5));
        assert_eq!(outcomes(Box::new(punched))[2..4], [whole[1].clone(), whole[1].clone()]);
        assert_eq!((outcomes(clone), relayed().encode()), (whole, None));
        let short = WireCall { count: 6, ..encoded(&calls) };
        assert!(Relayed::new(Halve::kind(), short).is_none());
        assert!(
            Relayed::new(Halve::kind(), WireCall { count: 0, inline: bytes::Bytes::new(), ..encoded(&[]) }).is_none()
        );
    }

    /// Returns so many bytes, of as many as go together.
    #[derive(Clone, serde::Serialize, serde::Deserialize)]
    struct Weigh(usize);

    impl Task for Weigh {
        type Output = Vec<u8>;
        const NAME: &'static str = "encoded::Weigh";
        fn run(self, _: &TaskContext) -> Result<Vec<u8>, TaskFailure> {
            Ok(vec![7; self.0])
        }
    }

    /// Its value is encoded, and then panics.
    #[derive(Clone, serde::Serialize, serde::Deserialize)]
    struct Fall(u32);

    #[derive(serde::Serialize, serde::Deserialize)]
    struct Falling(u32);

    impl Drop for Falling {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }

    impl Task for Fall {
        type Output = Falling;
        const NAME: &'static str = "encoded::Fall";
        fn run(self, _: &TaskContext) -> Result<Falling, TaskFailure> {
            Ok(Falling(self.0))
        }
    }

    #[test]
    fn a_value_that_panics_when_it_is_dropped_is_there_all_the_same() {
        let mut items = ItemWriter::default();
        let chunk = Chunk::new((0..3).map(Fall));
        (0..3).for_each(|at| items.put(|to| chunk.encode_item(at, to)).unwrap());
        let (inline, blobs) = items.finish();
        let call = WireCall { key: Fall::kind().key, count: 3, inline, blobs };
        let mut run = EncodedCalls::<Fall>::read(&call).unwrap().as_chunk().unwrap();
        run.run(&mut TaskContext::here(), &Noted::default());
        let (count, Value::Typed(values), _) = run.finish() else { unreachable!("they are several") };
        let values = values.into_any().downcast::<EncodedValues>().unwrap();
        let values = values.read(|value| Ok(postcard::from_bytes::<u32>(&value.inline).unwrap()));
        assert_eq!((count, values), (3, vec![Ok(0), Ok(1), Ok(2)]));
    }

    #[test]
    fn more_values_than_go_together_come_in_several_parts() {
        let mut items = ItemWriter::default();
        let chunk = Chunk::new([4 << 20; 20].map(Weigh));
        (0..20).for_each(|at| items.put(|to| chunk.encode_item(at, to)).unwrap());
        let (inline, blobs) = items.finish();
        let call = WireCall { key: Weigh::kind().key, count: 20, inline, blobs };
        let mut next = EncodedCalls::<Weigh>::read(&call).unwrap().as_chunk();
        let (mut cx, mut parts) = (TaskContext::here(), Vec::new());
        while let Some(mut run) = next {
            run.run(&mut cx, &Noted::default());
            let (count, _, rest) = run.finish();
            parts.push(count);
            next = rest;
        }
        assert_eq!(parts, [8, 8, 4]);
    }
}
