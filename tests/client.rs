//! What a client sees of its cluster: engines that are chosen, come and go; tasks that are waited for.
#![allow(clippy::unwrap_used)]

use std::sync::mpsc;
use std::time::Duration;

use actix::prelude::*;
use callboard::prelude::*;
use callboard::{Attempt, EngineEvent, EngineId, Error, Policy, every_nth};

mod support;
use support::{Cluster, Gate};

#[task]
fn square(x: u64) -> u64 {
    x * x
}

#[task]
fn where_am_i(cx: &TaskContext) -> u32 {
    cx.engine().unwrap().0
}

const PATIENCE: Duration = Duration::from_secs(20);

fn cluster(n: usize) -> (Cluster, Client) {
    let cluster = support::engines(n).start().unwrap();
    let client = cluster.client();
    (cluster, client)
}

fn ids(ids: impl IntoIterator<Item = u32>) -> Vec<EngineId> {
    ids.into_iter().map(EngineId).collect()
}

/// What this program is where engines are processes.
#[test]
fn engine() {
    support::engine();
}

#[test]
fn views_are_made_of_ranges_lists_and_steps() {
    let (cluster, rc) = cluster(5);
    cluster.remove_engines([EngineId(1)]).get_timeout(PATIENCE).unwrap();
    let targets = |view: callboard::DirectView| view.targets().to_vec();
    assert_eq!(targets(rc.engines(..).unwrap()), ids([0, 2, 3, 4]));
    assert_eq!(targets(rc.engines(1..3).unwrap()), ids([2, 3]), "places, not ids");
    assert_eq!(targets(rc.engines(..-1).unwrap()), ids([0, 2, 3]));
    assert_eq!(targets(rc.engines(every_nth(.., 2)).unwrap()), ids([0, 3]));
    assert_eq!(targets(rc.engines([4, -4]).unwrap()), ids([4, 0]));
    assert_eq!(targets(rc.direct_view(rc.ids().into_iter().rev())), ids([4, 3, 2, 0]));
    assert_eq!(rc.engines([4, -4]).unwrap().apply(where_am_i()).get().unwrap(), [4, 0]);
    assert!(matches!(rc.engines([1]), Err(Error::NoSuchEngine { asked: 1, .. })));
    assert!(matches!(rc.engines(every_nth(.., 0)), Err(Error::Zero { .. })));
    let none = rc.engines(2..2).unwrap();
    assert!(none.is_empty());
    assert_eq!(none.apply(square(1)).results().unwrap(), [Err(TaskError::NoEngines)]);
}

#[test]
fn every_has_the_engines_of_the_moment_and_all_those_it_was_made_with() {
    let (cluster, rc) = cluster(2);
    let (all, every) = (rc.all(), rc.every());
    assert_eq!(format!("{every:?}"), "<DirectView every [0, 1]>");
    assert_eq!(cluster.add_threads(1).get_timeout(PATIENCE).unwrap(), ids([2]));
    cluster.remove_engines(ids([0])).get_timeout(PATIENCE).unwrap();
    assert_eq!(every.apply(where_am_i()).get().unwrap(), [1, 2]);
    assert_eq!(every.map(square, 0..5).get().unwrap(), [0, 1, 4, 9, 16]);
    let of_all = all.apply(where_am_i()).results().unwrap();
    assert!(matches!(&of_all[0], Err(TaskError::EngineLost { engine: EngineId(0), attempt: Attempt(0), .. })));
    assert_eq!(of_all[1], Ok(1));
}

#[test]
fn without_engines_a_direct_view_refuses_and_a_load_balanced_one_waits() {
    let (cluster, rc) = cluster(1);
    cluster.remove_engines(ids([0])).get_timeout(PATIENCE).unwrap();
    assert!(rc.is_empty() && rc.every().is_empty());
    assert_eq!(rc.every().apply(square(2)).results().unwrap(), [Err(TaskError::NoEngines)]);
    assert!(matches!(rc.engine(0), Err(Error::NoSuchEngine { .. })));
    let (one, map) = (rc.load_balanced().apply(square(3)), rc.load_balanced().map(square, 0..1_000));
    assert_eq!(rc.queue_status().get().unwrap().queued, 1_001);
    assert!(!one.ready());
    cluster.add_threads(1).get_timeout(PATIENCE).unwrap();
    assert_eq!(one.get(), Ok(9));
    assert_eq!(map.get().unwrap().len(), 1_000);
}

#[test]
fn an_engine_that_is_removed_finishes_what_it_runs_and_the_rest_moves_on() {
    static GATE: support::CommonGate =
        support::CommonGate::new("an_engine_that_is_removed_finishes_what_it_runs_and_the_rest_moves_on.GATE");
    static RUNNING: support::CommonGate =
        support::CommonGate::new("an_engine_that_is_removed_finishes_what_it_runs_and_the_rest_moves_on.RUNNING");
    #[task]
    fn gated(cx: &TaskContext) -> u32 {
        RUNNING.open();
        GATE.pass();
        cx.engine().unwrap().0
    }
    let (cluster, rc) = cluster(1);
    let running = rc.engine(0).unwrap().apply(gated());
    RUNNING.pass();
    let bound = rc.engine(0).unwrap().apply(where_am_i());
    let free: Vec<_> = (0..10).map(|_| rc.load_balanced().apply(where_am_i())).collect();
    let removed = cluster.remove_engines(ids([0]));
    // At once: what can run nowhere else is lost, what can waits for another engine.
    let lost = bound.get_timeout(PATIENCE).unwrap_err();
    let expected = "engine 0 was lost at attempt 0: it was removed from the cluster";
    assert_eq!(lost.to_string(), expected);
    cluster.add_threads(1).get_timeout(PATIENCE).unwrap();
    for ar in &free {
        assert_eq!(ar.get_timeout(PATIENCE), Ok(1));
        assert_eq!(ar.metadata().attempt, Attempt(1));
    }
    assert_eq!(rc.ids(), ids([0, 1]), "it has not left");
    let late = rc.load_balanced_view(ids([0])).apply(where_am_i());
    let refused = cluster.client().engine(0).unwrap().apply(where_am_i());
    assert!(matches!(refused.get_timeout(PATIENCE), Err(TaskError::EngineLost { attempt: Attempt(0), .. })));
    GATE.open();
    removed.get_timeout(PATIENCE).unwrap();
    assert_eq!(running.get_timeout(PATIENCE), Ok(0), "what ran is finished");
    assert!(matches!(late.get_timeout(PATIENCE), Err(TaskError::EngineLost { .. })));
    assert_eq!(rc.ids(), ids([1]));
    let unknown = cluster.remove_engines(ids([1, 7])).get_timeout(PATIENCE).unwrap_err();
    assert_eq!(unknown.to_string(), "no engine 7 here; engines are [1]");
    assert_eq!(rc.ids(), ids([1]), "then none goes");
}

struct Listener(tokio::sync::mpsc::UnboundedSender<EngineEvent>);

impl Actor for Listener {
    type Context = Context<Self>;
}

impl Handler<EngineEvent> for Listener {
    type Result = ();
    fn handle(&mut self, msg: EngineEvent, _: &mut Context<Self>) {
        // The test may have seen enough.
        let _ = self.0.send(msg);
    }
}

#[test]
fn engines_that_come_and_go_are_told_to_actors_and_to_streams() {
    System::new().block_on(async {
        use futures_util::StreamExt;
        let cluster = support::engines(1).start().unwrap();
        let rc = cluster.client();
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let listener = Listener(tell).start();
        rc.on_engine_event(listener.clone().recipient()).await.unwrap();
        let mut stream = rc.engine_events();
        assert!(matches!(stream.recv(), Err(Error::WouldBlock)));
        cluster.add_threads(1).await.unwrap();
        let joined = EngineEvent::Joined { engine: EngineId(1) };
        assert_eq!(stream.next().await, Some(joined.clone()));
        // One that is gone does no harm.
        let (gone, _) = tokio::sync::mpsc::unbounded_channel();
        rc.on_engine_event(Listener(gone).start().recipient()).await.unwrap();
        cluster.remove_engines([EngineId(1)]).await.unwrap();
        assert!(matches!(stream.next().await, Some(EngineEvent::Left { engine: EngineId(1), .. })));
        assert_eq!(told.recv().await, Some(joined));
        assert!(matches!(told.recv().await, Some(EngineEvent::Left { engine: EngineId(1), .. })));
        cluster.shutdown(Pending::Finish).await.unwrap();
        assert_eq!(stream.next().await, None);
    });
}

#[test]
fn a_subscriber_that_is_too_slow_is_told_how_many_it_missed() {
    let (cluster, rc) = cluster(1);
    let mut events = rc.engine_events();
    let max = callboard::limits::ENGINE_EVENTS_MAX as u64;
    for id in 1..=(max as u32 / 2 + 3) {
        cluster.add_threads(1).get_timeout(PATIENCE).unwrap();
        cluster.remove_engines(ids([id])).get_timeout(PATIENCE).unwrap();
    }
    assert_eq!(events.recv_timeout(PATIENCE).unwrap(), Some(EngineEvent::Missed { count: 6 }));
    let mut taken = 0;
    while events.recv_timeout(Duration::ZERO).is_ok() {
        taken += 1;
    }
    assert_eq!(taken, max);
}

#[test]
fn an_actor_that_is_too_slow_is_told_how_many_it_missed_and_holds_nobody_up() {
    static GATE: Gate = Gate::new();
    struct Slow(mpsc::Sender<EngineEvent>);
    impl Actor for Slow {
        type Context = Context<Self>;
    }
    impl Handler<EngineEvent> for Slow {
        type Result = ();
        fn handle(&mut self, msg: EngineEvent, _: &mut Context<Self>) {
            let is_first = msg == EngineEvent::Joined { engine: EngineId(1) };
            self.0.send(msg).unwrap();
            if is_first {
                GATE.pass();
            }
        }
    }
    let (cluster, rc) = cluster(1);
    let (tell, told) = mpsc::channel();
    let (addr, started) = mpsc::channel();
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let its_thread = std::thread::spawn(move || {
        System::new().block_on(async move {
            addr.send(Slow(tell).start()).unwrap();
            ended.await.unwrap_err();
        });
    });
    let slow = started.recv_timeout(PATIENCE).unwrap();
    rc.on_engine_event(slow.recipient()).get_timeout(PATIENCE).unwrap();
    cluster.add_threads(1).get_timeout(PATIENCE).unwrap();
    assert_eq!(told.recv_timeout(PATIENCE), Ok(EngineEvent::Joined { engine: EngineId(1) }));
    let max = callboard::limits::ENGINE_EVENTS_MAX as u64;
    for id in 1..=(max as u32 / 2 + 10) {
        cluster.remove_engines(ids([id])).get_timeout(PATIENCE).unwrap();
        cluster.add_threads(1).get_timeout(PATIENCE).unwrap();
    }
    GATE.open();
    let last = EngineEvent::Joined { engine: EngineId(max as u32 / 2 + 11) };
    let (mut taken, mut missed) = (0, 0);
    loop {
        match told.recv_timeout(PATIENCE).unwrap() {
            EngineEvent::Missed { count } => missed += count,
            event => {
                taken += 1;
                if event == last {
                    break;
                }
            }
        }
    }
    assert_eq!(taken + missed, max + 20, "each was told or counted");
    assert!(missed >= 19, "{missed}");
    drop(end);
    its_thread.join().unwrap();
}

#[test]
fn waiting_is_for_the_tasks_of_this_client_that_were_submitted_before() {
    static GATES: [support::CommonGate; 3] = [
        support::CommonGate::new("waiting.0"),
        support::CommonGate::new("waiting.1"),
        support::CommonGate::new("waiting.2"),
    ];
    #[task]
    fn behind(gate: usize) {
        GATES[gate].pass();
    }
    let (_cluster, rc) = cluster(3);
    let view = rc.load_balanced();
    let first = view.apply(behind(0));
    let map = view.with().chunksize(2).map(|_| square(2), 0..10);
    let waiting = rc.wait();
    let later = view.apply(behind(1));
    map.wait().unwrap();
    assert!(matches!(rc.wait().get_timeout(Duration::from_millis(50)), Err(Error::NotReady { .. })));
    GATES[0].open();
    waiting.get_timeout(PATIENCE).unwrap();
    assert!(first.ready() && !later.ready());
    GATES[1].open();
    rc.wait().get_timeout(PATIENCE).unwrap();
    assert!(later.ready());
    rc.wait().get_timeout(PATIENCE).unwrap();
    GATES[2].open();
}

#[test]
fn waiting_beside_many_that_settle_in_any_order_ends_with_the_last() {
    static DONE: support::CommonCount =
        support::CommonCount::new("waiting_beside_many_that_settle_in_any_order_ends_with_the_last.DONE");
    #[task]
    fn counted(x: u64) -> u64 {
        DONE.add();
        x
    }
    let (_cluster, rc) = cluster(4);
    let view = rc.load_balanced();
    for round in 1..=20 {
        let map = view.map(counted, 0..5_000);
        let singles: Vec<_> = (0..500).map(|x| view.apply(counted(x))).collect();
        let cancelled = view.map(counted, 0..100);
        cancelled.cancel("not these");
        rc.wait().get_timeout(PATIENCE).unwrap();
        assert!(map.ready() && cancelled.ready() && singles.iter().all(|ar| ar.ready()), "round {round}");
    }
    assert!(DONE.get() >= 20 * 5_500);
}

#[test]
fn every_policy_runs_everything_and_spreads_it() {
    for policy in [Policy::LeastLoad, Policy::Lru, Policy::PlainRandom, Policy::TwoBin, Policy::Weighted] {
        let cluster = support::engines(4).policy(policy).start().unwrap();
        let rc = cluster.client();
        let view = rc.load_balanced();
        assert_eq!(view.map(square, 0..10_000).get().unwrap().len(), 10_000, "{policy:?}");
        // One at a time, all engines idle: the policy alone decides.
        let mut shares = [0; 4];
        for _ in 0..200 {
            shares[view.apply(where_am_i()).get().unwrap() as usize] += 1;
        }
        match policy {
            Policy::LeastLoad => assert!(shares[0] > 150, "the first that is idle: {shares:?}"),
            Policy::Lru => assert!(shares.iter().all(|&n| (45..=55).contains(&n)), "{shares:?}"),
            _ => assert!(shares.iter().all(|&n| n > 15), "{policy:?}: {shares:?}"),
        }
        let even = rc.load_balanced_view(ids([0, 2]));
        assert!((0..50).all(|_| even.apply(where_am_i()).get().unwrap().is_multiple_of(2)), "{policy:?}");
    }
}

#[test]
fn an_engine_that_is_named_twice_is_restarted_once() {
    let cluster = callboard::Cluster::threads(2).start().unwrap();
    let fresh = cluster.restart_engines([EngineId(1), EngineId(1)]).get_timeout(PATIENCE).unwrap();
    assert_eq!((&fresh[..], cluster.client().ids()), (&[EngineId(2)][..], vec![EngineId(0), EngineId(2)]));
}
