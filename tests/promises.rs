//! Results that no cluster makes.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use callboard::executors::{Call, InFlight, Job};
use callboard::prelude::*;
use callboard::task::{Value, WireValue};
use callboard::{Promise, Reply, ReturnWhen, Status, as_completed, wait};

mod support;
use support::{eventually, our_threads};

#[task]
fn half(x: f64) -> f64 {
    x / 2.0
}

/// What this program is where engines are processes.
#[test]
fn engine() {
    support::engine();
}

#[test]
fn a_promise_is_kept_once_and_its_result_is_as_any_other() {
    let (promise, mut ar) = Promise::<String>::new("reading");
    assert_eq!(format!("{ar:?} {promise:?}"), "<AsyncResult reading: pending> <Promise reading>");
    assert_eq!((promise.id(), ar.ready()), (ar.id(), false));
    assert!(promise.start() && promise.start(), "it may be said twice");
    assert_eq!(ar.metadata().status, Status::Pending);
    promise.fulfil("text".into());
    assert_eq!((ar.get().unwrap(), ar.peek(|outcome| outcome.is_ok())), ("text".into(), Some(true)));
    assert_eq!((ar.metadata().status, ar.metadata().attempt.0), (Status::Done, 1));
    assert!(ar.metadata().run_time().is_some());
    assert_eq!((ar.take(), ar.take()), (Ok("text".into()), Err(TaskError::AlreadyTaken)));
}

#[test]
fn a_promise_that_is_dropped_says_so() {
    let (promise, ar) = Promise::<u32>::new("lost");
    drop(promise);
    let error = ar.get().unwrap_err();
    assert_eq!((&error, ar.metadata().status), (&TaskError::Disconnected, Status::Lost));
    assert!(error.to_string().contains("its promise was dropped"), "{error}");
}

#[test]
fn a_promise_may_be_kept_on_another_thread_while_one_waits() {
    for _ in 0..200 {
        let (promise, ar) = Promise::new("elsewhere");
        let thread = std::thread::spawn(move || promise.fulfil(vec![1, 2, 3]));
        assert_eq!(ar.get(), Ok(vec![1, 2, 3]));
        thread.join().unwrap();
    }
}

#[test]
fn cancelling_settles_at_once_and_the_late_value_is_dropped() {
    struct Counted(Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    for starts in [Some(()), None] {
        let drops = Arc::new(AtomicUsize::new(0));
        let (promise, ar) = Promise::new("slow");
        let cx = promise.context();
        if starts.is_some() {
            assert!(promise.start());
        }
        assert!(!promise.is_cancelled() && !cx.is_cancelled());
        assert!(ar.cancel("enough"));
        assert!(ar.ready() && promise.is_cancelled() && cx.is_cancelled(), "before cancel returns");
        assert!(matches!(ar.peek(|outcome| outcome.as_ref().err().cloned()), Some(Some(TaskError::Cancelled { .. }))));
        assert!(!ar.cancel("again"));
        assert!(!promise.start(), "it need not begin");
        promise.fulfil(Counted(drops.clone()));
        assert_eq!(drops.load(Ordering::SeqCst), 1);
        assert_eq!(ar.metadata().status, Status::Cancelled);
    }
}

#[test]
fn cancelling_wakes_the_work_that_waits_for_it() {
    let (promise, ar) = Promise::<u32>::new("async work");
    let cx = promise.context();
    let working = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { tokio::time::timeout(Duration::from_secs(10), cx.cancelled()).await })
    });
    assert!(ar.cancel("enough"));
    assert_eq!(working.join().unwrap(), Ok(()));
}

#[test]
fn a_result_that_cancels_on_drop_cancels_a_promise() {
    let (promise, ar) = Promise::<u32>::new("guarded");
    drop(ar.cancel_on_drop());
    assert!(promise.is_cancelled());
    let (promise, ar) = Promise::<u32>::new("detached");
    drop(ar);
    assert!(promise.start() && !promise.is_cancelled(), "dropping a result detaches it");
}

#[test]
fn a_value_that_nobody_wants_is_dropped_where_its_drop_may_panic() {
    struct Bad(mpsc::Sender<String>);
    impl Drop for Bad {
        fn drop(&mut self) {
            self.0.send(std::thread::current().name().unwrap_or_default().to_string()).unwrap();
            panic!("dropped");
        }
    }
    let (tell, told) = mpsc::channel();
    let (promise, ar) = Promise::new("unwanted");
    drop(ar);
    promise.fulfil(Bad(tell));
    assert!(told.recv_timeout(Duration::from_secs(10)).unwrap().starts_with("cb-apart"));
    let (promise, ar) = Promise::new("next");
    promise.fulfil(1);
    assert_eq!(ar.get(), Ok(1));
}

#[test]
fn callbacks_of_promises_run_on_a_few_threads_that_end_when_idle() {
    static CALLING: AtomicUsize = AtomicUsize::new(0);
    static MOST: AtomicUsize = AtomicUsize::new(0);
    let (tell, told) = mpsc::channel();
    let mut promises = Vec::new();
    for i in 0..100 {
        let (promise, ar) = Promise::<u32>::new("with callbacks");
        for k in 0..3 {
            let tell = tell.clone();
            ar.add_done_callback(move |ar| {
                // A thread that has just ended may still be listed, so those are counted that call.
                MOST.fetch_max(CALLING.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tell.send((ar.get(), k)).unwrap();
                CALLING.fetch_sub(1, Ordering::SeqCst);
            })
            .unwrap();
        }
        ar.add_done_callback(|_| panic!("in a callback")).unwrap();
        promises.push((i, promise));
    }
    promises.into_iter().for_each(|(i, promise)| promise.fulfil(i));
    drop(tell);
    let mut called: Vec<_> = told.iter().collect();
    assert_eq!(called.len(), 300);
    for i in 0..100 {
        let order: Vec<_> = called.iter().filter(|(value, _)| *value == Ok(i)).map(|(_, k)| *k).collect();
        assert_eq!(order, [0, 1, 2], "of one result in order");
    }
    called.sort_by_key(|(value, k)| (value.clone().unwrap(), *k));
    assert_eq!(called, (0..100).flat_map(|i| (0..3).map(move |k| (Ok(i), k))).collect::<Vec<_>>());
    let threads = || our_threads().into_iter().filter(|name| name.starts_with("cb-apart")).count();
    assert!(MOST.load(Ordering::SeqCst) <= 8, "{MOST:?}");
    eventually("they end", || threads() == 0);
}

#[test]
fn a_callback_may_cancel_wait_and_promise() {
    let (outer, ar) = Promise::<u32>::new("outer");
    let (tell, told) = mpsc::channel();
    ar.add_done_callback(move |ar| {
        let (inner, result) = Promise::<u32>::new("inner");
        let twice = ar.get().unwrap() * 2;
        std::thread::spawn(move || inner.fulfil(twice));
        assert!(!ar.cancel("it is settled"));
        tell.send(result.get().unwrap()).unwrap();
    })
    .unwrap();
    outer.fulfil(21);
    assert_eq!(told.recv_timeout(Duration::from_secs(10)), Ok(42));
}

/// Takes its jobs out to whoever plays the engine.
#[derive(Debug, Default)]
struct ByHand {
    in_flight: InFlight,
    jobs: std::sync::Mutex<Vec<Job>>,
}

impl Executor for ByHand {
    fn name(&self) -> &'static str {
        "ByHand"
    }
    fn max_workers(&self) -> usize {
        1
    }
    fn execute(&self, calls: Vec<Call<'_>>) {
        self.jobs.lock().unwrap().extend(calls.into_iter().filter_map(|call| self.in_flight.admit(call)));
    }
    fn shutdown(&self, pending: Pending) -> Reply<()> {
        self.in_flight.shutdown(pending)
    }
}

impl ByHand {
    fn job(&self) -> Job {
        self.jobs.lock().unwrap().remove(0)
    }
}

#[test]
fn a_job_may_run_elsewhere_as_bytes() {
    let ex = ByHand::default();
    let ar = ex.submit(half(3.0));
    let job = ex.job();
    assert!(job.start() && !job.is_cancelled());
    let wire = job.encode().unwrap();
    assert_eq!((wire.key, wire.inline.len()), (<half as Task>::kind().key, 8));
    assert_eq!(job.encode().unwrap(), wire, "as often as one likes");
    job.free_arguments();
    assert!(matches!(job.encode(), Err(TaskError::Cancelled { .. })));
    // Elsewhere: 3.0 becomes 1.5.
    let value = WireValue { inline: 1.5_f64.to_le_bytes().to_vec().into(), blobs: Vec::new() };
    job.settle(Ok(Value::Wire(Box::new(value))));
    assert_eq!(ar.get(), Ok(1.5));
}

#[test]
fn a_result_that_cannot_be_decoded_is_an_error_of_its_own() {
    let ex = ByHand::default();
    let (bad, good) = (ex.submit(half(3.0)), ex.submit(half(4.0)));
    let short = WireValue { inline: vec![1, 2].into(), blobs: Vec::new() };
    ex.job().settle(Ok(Value::Wire(Box::new(short))));
    let error = bad.get().unwrap_err();
    assert!(matches!(error, TaskError::Undecodable { .. }), "{error:?}");
    assert_eq!((bad.metadata().status, bad.successful()), (error.status(), Some(false)));
    ex.job().run();
    assert_eq!(good.get(), Ok(2.0));
    assert_eq!(ex.in_flight.len(), 0);
}

#[test]
fn a_call_or_a_job_that_is_dropped_settles_its_result() {
    let ex = ByHand::default();
    let ar = ex.submit(half(1.0));
    drop(ex.job());
    assert_eq!((ar.get(), ex.in_flight.is_empty()), (Err(TaskError::Disconnected), true));

    #[derive(Debug)]
    struct Forgetful;
    impl Executor for Forgetful {
        fn name(&self) -> &'static str {
            "Forgetful"
        }
        fn max_workers(&self) -> usize {
            0
        }
        fn execute(&self, _: Vec<Call<'_>>) {}
        fn shutdown(&self, _: Pending) -> Reply<()> {
            Reply::new(async { Ok(()) })
        }
    }
    assert_eq!(Forgetful.submit(half(1.0)).get(), Err(TaskError::Disconnected));
    let outcomes: Vec<_> = Forgetful.map(half, [1.0, 2.0]).collect();
    assert_eq!(outcomes, [Err(TaskError::Disconnected), Err(TaskError::Disconnected)]);
}

#[test]
fn cancelling_a_queued_job_frees_its_arguments() {
    let ex = ByHand::default();
    let ar = ex.submit(half(1.0));
    let job = ex.job();
    assert!(ar.cancel("enough"));
    assert!(job.is_cancelled() && !job.start());
    assert!(matches!(job.encode(), Err(TaskError::Cancelled { .. })), "they are gone");
    job.run();
    assert!(ex.in_flight.is_empty());
}

#[test]
fn results_of_any_origin_are_waited_for_together() {
    let cluster = support::engines(2).start().unwrap();
    let rc = cluster.client();
    let (promise, promised) = Promise::<f64>::new("promised");
    let of_engine = rc.load_balanced().apply(half(4.0)).cancel_on_drop();
    let of_all = rc.all().apply(half(8.0));
    let pool = callboard::ThreadPoolExecutor::new(1).unwrap();
    let of_pool = pool.submit(half(2.0));
    let all: Vec<Box<dyn callboard::Awaitable + '_>> =
        vec![Box::new(&promised), Box::new(&of_engine), Box::new(&of_all), Box::new(&of_pool)];
    let waited = wait(all, ReturnWhen::AllCompleted).get_timeout(Duration::from_millis(1)).unwrap();
    assert_eq!(waited.pending.len() + waited.done.len(), 4);
    let others: Vec<&dyn callboard::Awaitable> = vec![&of_engine, &of_all, &of_pool];
    assert_eq!(as_completed(others).count(), 3);
    let waited = wait(waited.pending, ReturnWhen::FirstException).get_timeout(Duration::from_millis(1)).unwrap();
    assert_eq!((waited.pending.len(), promised.ready()), (1, false));
    promise.fail("no");
    let waited = wait(waited.pending, ReturnWhen::FirstException).get().unwrap();
    assert_eq!((waited.done.len(), waited.done[0].successful()), (1, Some(false)));
}

#[test]
fn the_first_exception_is_found_among_many_and_the_order_is_kept() {
    let (promises, results): (Vec<_>, Vec<_>) = (0..1_000).map(|_| Promise::<usize>::new("one of many")).unzip();
    let mut promises: Vec<_> = promises.into_iter().map(Some).collect();
    let waiting = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| wait(&results, ReturnWhen::FirstException).get().unwrap());
        for i in (0..500).rev() {
            promises[i].take().unwrap().fulfil(i);
        }
        promises[700].take().unwrap().fail("no");
        waiting.join().unwrap()
    });
    let ids = |results: &[&callboard::AsyncResult<usize>]| results.iter().map(|ar| ar.id()).collect::<Vec<_>>();
    let expected: Vec<_> = results.iter().filter(|ar| ar.ready()).collect();
    assert_eq!((waiting.done.len(), waiting.pending.len()), (501, 499));
    assert_eq!(ids(&waiting.done), ids(&expected));
    drop(promises);
    let waited = wait(&results, ReturnWhen::AllCompleted).get().unwrap();
    assert_eq!(waited.done.len(), 1_000);
    let nothing = wait(Vec::<&callboard::AsyncResult<u32>>::new(), ReturnWhen::FirstCompleted).get().unwrap();
    assert!(nothing.done.is_empty() && nothing.pending.is_empty(), "no results, no waiting");
}

#[test]
fn as_completed_lets_go_of_what_it_returned_and_takes_a_hundred_thousand() {
    const MANY: usize = 100_000;
    let (promises, results): (Vec<_>, Vec<_>) = (0..MANY).map(|_| Promise::<usize>::new("one of many")).unzip();
    let completed = as_completed(results.into_iter().map(Arc::new));
    let giving = std::thread::spawn(move || promises.into_iter().rev().for_each(|promise| promise.fulfil(1)));
    let mut sum = 0;
    for ar in completed {
        assert_eq!(Arc::strong_count(&ar), 1);
        sum += ar.get().unwrap();
    }
    giving.join().unwrap();
    assert_eq!(sum, MANY);
}
