//! The ledger keeps its promises, whatever happens in whichever order.

mod ledger_model;

use std::sync::Arc;
use std::time::Duration;

use callboard::ledger::{EngineOffer, HandBack, Ledger, Order, Request, SettledTask};
use callboard::task::{
    Attempt, Closure, EngineId, Lack, Moment, Payload, Retries, Span, Target, TaskId, TaskKind, TaskTable,
};
use callboard::{Limits, TaskError};
use ledger_model::script::{config, dishonest, honest, limits, play, script};
use ledger_model::{CLOSURE, Effect, KINDS, LONG, SHORT, TINY, Wish, World, cancelled, lost, wish};
use proptest::prelude::*;

proptest! {
    #![proptest_config(config())]

    #[test]
    fn everything_settles_once_and_nothing_is_left(
        limits in limits(), engines in 0..4_u32, events in script(honest()), is_torn_down: bool,
    ) {
        play(&limits, engines, &events, if is_torn_down { World::tear_down } else { World::run_to_the_end })?;
    }

    #[test]
    fn engines_that_say_what_is_not_true_break_nothing(
        limits in limits(), engines in 0..4_u32, events in script(dishonest()),
    ) {
        play(&limits, engines, &events, World::tear_down)?;
    }
}

/// A world whose engines may have `outstanding_max` tasks, and one engine of `slots`, which has run each kind once.
fn world_with_engine(slots: u32, outstanding_max: u32) -> (World, EngineId) {
    let mut limits = Limits::default();
    limits.engine_outstanding_max = outstanding_max;
    let mut world = World::new(&limits);
    let engine = world.join(slots, true);
    KINDS.into_iter().for_each(|kind| drop(world.submit(vec![wish(kind, Target::Any)])));
    world.run_to_the_end();
    forget(&mut world);
    (world, engine)
}

/// Forgets the orders so far.
fn forget(world: &mut World) {
    world.runs.clear();
    world.effects.clear();
}

fn submit(world: &mut World, count: usize, kind: &'static TaskKind, target: &Target) -> Vec<TaskId> {
    world.submit(vec![wish(kind, target.clone()); count])
}

/// The engine finishes one task, and everybody hears of it.
fn finish(world: &mut World, engine: EngineId) {
    world.finish(engine, 0);
    world.publish(1);
    world.confirm(usize::MAX);
}

fn sent_to(engine: EngineId, tasks: &[TaskId]) -> Vec<(EngineId, TaskId)> {
    tasks.iter().map(|&task| (engine, task)).collect()
}

#[test]
fn tasks_handed_back_unstarted_go_out_again_in_the_order_of_their_submission() {
    let (mut world, first) = world_with_engine(1, 4);
    let tasks = submit(&mut world, 6, &TINY, &Target::Any);
    assert_eq!(world.runs, sent_to(first, &tasks[..4]));
    let second = world.join(1, false);
    assert_eq!(world.runs[4..], sent_to(second, &tasks[4..]));

    // The first engine runs one and gives three back. It has no slot for a tiny one less, so it gets them again.
    world.start(first);
    forget(&mut world);
    world.return_all(first);
    assert_eq!(world.runs, sent_to(first, &tasks[1..4]));
    assert_eq!(world.effects, []);

    world.run_to_the_end();

    // Those that waited in the queue go after those that were handed back to it.
    let tasks = submit(&mut world, 6, &TINY, &Target::One(first));
    forget(&mut world);
    world.return_all(first);
    assert_eq!(world.runs, sent_to(first, &tasks[..4]));
    finish(&mut world, first);
    world.return_all(first);
    assert_eq!(world.runs[4..], sent_to(first, &[tasks[4], tasks[1], tasks[2], tasks[3], tasks[4]]));
    world.run_to_the_end();
    world.check_nothing_left();
}

#[test]
fn a_hand_back_unstarted_uses_no_attempt_and_an_error_or_a_loss_uses_one_of_its_kind() {
    let (mut world, engine) = world_with_engine(1, 4);
    let retries = Retries { errors: 1, losses: 2 };
    let task = world.submit(vec![Wish { retries, ..wish(&TINY, Target::Any) }])[0];

    for _ in 0..10 {
        world.return_all(engine);
    }
    assert_eq!(world.effects, []);
    assert_eq!(world.model.tasks[&task].starts, 1);

    let mut fail = |is_loss| {
        world.fail(engine, 0, is_loss, true);
        world.hear_returns(1);
        std::mem::take(&mut world.effects)
    };
    assert_eq!(fail(false), [Effect::Expect(task, Attempt(2))]);
    assert_eq!(fail(true), [Effect::Expect(task, Attempt(3))]);
    // One error and one loss are used, and no task starts more than 1 + max(1, 2) times.
    let over = Effect::Settle(task, Attempt(3), lost(engine, Attempt(3)));
    assert_eq!(fail(true), [Effect::Discard(task), over]);
    world.run_to_the_end();
    world.check_nothing_left();
}

#[test]
fn a_stream_of_tiny_tasks_does_not_starve_a_long_one() {
    let streams: [fn(EngineId) -> Target; 3] = [|_| Target::Any, Target::One, |engine| Target::Of([engine].into())];
    for long_target in streams {
        for tiny_target in streams {
            let (mut world, engine) = world_with_engine(1, 8);
            let (long_target, tiny_target) = (long_target(engine), tiny_target(engine));
            submit(&mut world, 4, &TINY, &tiny_target);
            let long = submit(&mut world, 1, &LONG, &long_target)[0];
            let mut finished = 0;
            while !world.runs.contains(&(engine, long)) {
                assert!(finished < 16, "{long_target:?} still waits behind {tiny_target:?}");
                submit(&mut world, 2, &TINY, &tiny_target);
                finish(&mut world, engine);
                finished += 1;
            }
            world.run_to_the_end();
            world.check_nothing_left();
        }
    }
}

#[test]
fn as_much_is_sent_ahead_as_the_backlog_has_room_for() {
    let unknown = None;
    // Backlog in microseconds, slots, kind, and how many of 1000 tasks the engine gets at once.
    for (backlog_us, slots, kind, sent) in [
        (500, 1, Some(&TINY), 500),
        (500, 2, Some(&TINY), 1_000),
        (500, 1, Some(&SHORT), 2),
        (500, 3, Some(&SHORT), 7),
        (500, 1, Some(&LONG), 1),
        (500, 3, Some(&LONG), 3),
        (500, 1, unknown, 1),
        (500, 3, unknown, 3),
        // Nothing is sent ahead where that is what the limit says.
        (0, 1, Some(&TINY), 1),
        (0, 2, unknown, 2),
        // More than any estimate can say.
        (10_000_000, 1, unknown, 1),
        (10_000_000, 2, Some(&LONG), 429),
        (u64::MAX, 2, unknown, 2),
    ] {
        for target in [|_| Target::Any, Target::One as fn(EngineId) -> Target] {
            let mut limits = Limits::default();
            limits.engine_backlog_us = backlog_us;
            let mut world = World::new(&limits);
            let engine = world.join(slots, true);
            if let Some(kind) = kind {
                submit(&mut world, 1, kind, &Target::Any);
                finish(&mut world, engine);
            }
            submit(&mut world, 1_000, kind.unwrap_or(&SHORT), &target(engine));
            let status = world.ledger.status();
            let case = (backlog_us, slots, kind.map(|kind| kind.name), target(engine));
            assert_eq!((status.engines[0].outstanding, status.queued), (sent, 1_000 - sent as usize), "{case:?}");
        }
    }
}

#[test]
fn a_hundred_overlapping_subsets_reach_only_their_members_and_each_keeps_its_order() {
    let (mut world, first) = world_with_engine(1, 4);
    let engines: Vec<EngineId> = [first].into_iter().chain((1..10).map(|i| world.join(1 + i % 3, true))).collect();
    // Each subset is made by a number of ten bits, no two are equal, and each engine is in about half of them.
    let subset = |i: u32| (0..10).filter(|bit| (i * 37 % 1023 + 1) & (1 << bit) != 0).map(|bit| engines[bit]).collect();
    let subsets: Vec<Arc<[EngineId]>> = (0..100).map(subset).collect();
    for round in 0..10 {
        let kind = KINDS[round % 3];
        world.submit(subsets.iter().map(|subset| wish(kind, Target::Of(subset.clone()))).collect());
        engines.iter().for_each(|&engine| finish(&mut world, engine));
    }
    // The world checks members, order, and that no engine is idle while a task that it may run waits.
    world.run_to_the_end();
    for engine in engines {
        let count = world.runs.iter().filter(|(to, _)| *to == engine).count();
        assert!(count >= 20, "engine {engine} ran {count} of 1000 tasks");
    }
    assert_eq!(world.runs.len(), 1_000);
    assert_eq!(world.ledger.status().settled, 1_004);
    world.check_nothing_left();
}

#[test]
fn each_of_many_idle_engines_gets_one_of_as_many_long_tasks() {
    let (mut world, first) = world_with_engine(1, 4);
    let engines: Vec<EngineId> = [first].into_iter().chain((1..130).map(|_| world.join(1, true))).collect();
    let third: Vec<EngineId> = engines.iter().copied().step_by(3).collect();
    let others: Vec<EngineId> = engines.iter().copied().filter(|engine| !third.contains(engine)).collect();
    let sent = |world: &mut World, count, target: &Target| {
        forget(world);
        submit(world, count, &LONG, target);
        let mut to: Vec<EngineId> = world.runs.iter().map(|(engine, _)| *engine).collect();
        to.sort_unstable();
        to
    };
    let of_third = Target::Of(third.clone().into());
    assert_eq!(sent(&mut world, third.len(), &of_third), third);
    assert_eq!(sent(&mut world, 1, &of_third), []);
    assert_eq!(sent(&mut world, others.len() + 1, &Target::Any), others);
    assert_eq!(world.ledger.status().queued, 2);
    world.run_to_the_end();
    world.check_nothing_left();
}

#[test]
fn unused_sets_of_engines_are_forgotten_beyond_the_limit_and_used_ones_are_not() {
    const SETS_MAX: usize = 1_024;
    let (mut world, engine) = world_with_engine(1, 4_096);
    let view = || Target::Of([engine].into());
    let (first, fixed) = (view(), 2);

    // One after the other: any number.
    let mut views = vec![first.clone()];
    for _ in 0..3 * SETS_MAX {
        submit(&mut world, 1, &TINY, &first);
        views.push(view());
        submit(&mut world, 1, &TINY, &views[views.len() - 1]);
        finish(&mut world, engine);
        finish(&mut world, engine);
    }
    assert_eq!(world.effects, []);

    // All at once: so many, and no more.
    let busy = submit(&mut world, 1, &LONG, &Target::One(engine))[0];
    let in_use: Vec<TaskId> =
        views[..SETS_MAX - fixed].iter().map(|view| submit(&mut world, 1, &TINY, view)[0]).collect();
    assert_eq!(world.effects, []);
    let id = TaskId { client: 8, seq: 0 };
    let refused = world.ledger.on_submit(world.now, vec![request(id, views[SETS_MAX].clone())]);
    let full = TaskError::Overloaded { what: "sets of engines", limit: SETS_MAX };
    assert!(
        matches!(&refused[..], [Order::Discard(_), Order::Settle { tasks: Span { first: task, .. }, attempt: Attempt(0), error, .. }]
            if *task == id && *error == full),
        "{refused:?}"
    );
    world.ledger.on_settled(&[confirmed(id)]);

    // One of them is not used any more: its place is free.
    assert_eq!(world.runs[world.runs.len() - 1], (engine, busy));
    let cancelled = [in_use[5]];
    world.ledger.on_cancel(&cancelled.map(Span::from), "no need");
    world.ledger.on_settled(&[confirmed(in_use[5])]);
    let orders = world.ledger.on_submit(world.now, vec![request(id, views[SETS_MAX].clone())]);
    assert!(orders.is_empty(), "it waits as the others do: {orders:?}");
    assert_eq!(world.ledger.status().queued, SETS_MAX - fixed);
}

#[test]
fn a_set_that_takes_the_place_of_a_forgotten_one_has_none_of_its_engines() {
    let (mut world, old) = world_with_engine(1, 4);
    for _ in 0..1_024 {
        submit(&mut world, 1, &TINY, &Target::Of([old].into()));
        finish(&mut world, old);
    }
    let new = world.join(1, true);
    let view = Target::Of([new].into());
    forget(&mut world);
    let tasks = submit(&mut world, 2, &LONG, &view);
    submit(&mut world, 1, &TINY, &Target::One(old));
    finish(&mut world, old);
    assert_eq!(world.runs.iter().filter(|(engine, _)| *engine == new).count(), 1);
    finish(&mut world, new);
    assert_eq!(world.runs[2..], [(new, tasks[1])]);
    world.run_to_the_end();
    world.check_nothing_left();
}

#[test]
fn tasks_that_no_engine_can_run_any_more_settle_as_lost_and_others_wait_for_the_next() {
    let (mut world, a) = world_with_engine(1, 1);
    let b = world.join(1, true);
    let both: Arc<[EngineId]> = [a, b].into();
    let on_a = submit(&mut world, 1, &LONG, &Target::One(a))[0];
    let on_b = submit(&mut world, 1, &LONG, &Target::One(b))[0];
    let [of_both, anywhere, only_a, closure] =
        [(&TINY, Target::Of(both.clone())), (&TINY, Target::Any), (&TINY, Target::One(a)), (&CLOSURE, Target::Any)]
            .map(|(kind, target)| submit(&mut world, 1, kind, &target)[0]);
    let lost = |task, engine, attempt, cause: &str| {
        Effect::Settle(task, attempt, TaskError::EngineLost { engine, attempt, cause: cause.into() })
    };
    forget(&mut world);

    world.leave(a, "killed by signal 9");
    let killed = "killed by signal 9";
    let expected = [lost(on_a, a, Attempt(1), killed), lost(only_a, a, Attempt(0), killed), Effect::Discard(only_a)];
    assert_same(&world.effects, &expected);

    forget(&mut world);
    world.leave(b, "left");
    let expected = [
        lost(on_b, b, Attempt(1), "left"),
        lost(of_both, b, Attempt(0), "left"),
        Effect::Discard(of_both),
        lost(closure, b, Attempt(0), "left"),
        Effect::Discard(closure),
    ];
    assert_same(&world.effects, &expected);

    // Whoever aims at engines that are gone is told so at once; a closure needs some engine of this process.
    forget(&mut world);
    let late = world.submit(vec![
        wish(&TINY, Target::One(a)),
        wish(&TINY, Target::Of(both)),
        wish(&CLOSURE, Target::Any),
        wish(&TINY, Target::Of([].into())),
    ]);
    let settle = |nth: usize, error| Effect::Settle(late[nth], Attempt(0), error);
    let expected = [
        lost(late[0], a, Attempt(0), "it has left the cluster"),
        lost(late[1], a, Attempt(0), "it has left the cluster"),
        settle(2, TaskError::NotPortable),
        settle(3, TaskError::NoEngines),
    ];
    assert_same(&world.effects, &late.iter().map(|&id| Effect::Discard(id)).chain(expected).collect::<Vec<_>>());

    forget(&mut world);
    let c = world.join(1, false);
    assert_eq!(world.runs, [(c, anywhere)]);
    world.run_to_the_end();
    world.check_nothing_left();
}

#[test]
fn an_engine_that_is_to_go_gets_nothing_more_and_goes_when_it_has_returned_everything() {
    let (mut world, a) = world_with_engine(1, 8);
    let moving = submit(&mut world, 3, &TINY, &Target::Any);
    world.start(a);
    forget(&mut world);
    world.retire(a);
    let waiting = submit(&mut world, 1, &TINY, &Target::Any);
    assert_eq!(world.runs, [], "there is no other");
    let b = world.join(1, false);
    assert_eq!(world.runs, sent_to(b, &waiting));

    // What it had not started moves on, without having used an attempt; what runs is finished.
    world.return_all(a);
    assert_eq!(world.runs[1..], sent_to(b, &moving[1..]));
    assert!(moving[1..].iter().all(|task| world.model.tasks[task].starts == 1));
    assert_eq!(world.effects, []);
    assert_eq!(world.ledger.status().engines.len(), 2, "it is still there");
    finish(&mut world, a);
    world.hear_dismissal();
    assert_eq!(world.ledger.status().engines.iter().map(|engine| engine.id).collect::<Vec<_>>(), [b]);
    world.run_to_the_end();
    world.check_nothing_left();
}

#[test]
fn what_is_bound_to_an_engine_that_is_to_go_is_lost_at_once_but_for_what_runs() {
    let (mut world, a) = world_with_engine(1, 3);
    world.join(1, true);
    let bound = submit(&mut world, 4, &TINY, &Target::One(a));
    world.start(a);
    forget(&mut world);
    let lost = |task| {
        let cause = "it is not needed".into();
        Effect::Settle(task, Attempt(0), TaskError::EngineLost { engine: a, attempt: Attempt(0), cause })
    };

    // The last waits in the ledger; two were sent ahead, and come back.
    world.retire(a);
    assert_same(&world.effects, &[lost(bound[3]), Effect::Discard(bound[3])]);
    forget(&mut world);
    world.return_all(a);
    let expected = [lost(bound[1]), Effect::Discard(bound[1]), lost(bound[2]), Effect::Discard(bound[2])];
    assert_same(&world.effects, &expected);
    assert_eq!(world.runs, []);

    // Whoever aims at it now is told so.
    forget(&mut world);
    let late = submit(&mut world, 1, &TINY, &Target::One(a))[0];
    assert_eq!(world.effects.len(), 2, "{late} is refused");
    finish(&mut world, a);
    world.run_to_the_end();
    world.check_nothing_left();
}

#[test]
fn an_idle_engine_goes_at_once() {
    let (mut world, a) = world_with_engine(2, 4);
    world.retire(a);
    world.hear_dismissal();
    assert_eq!(world.ledger.status().engines, []);
    let waiting = submit(&mut world, 1, &TINY, &Target::Any);
    let b = world.join(1, true);
    assert_eq!((b, &world.runs[..]), (EngineId(1), &[(b, waiting[0])][..]));
    world.run_to_the_end();
    world.check_nothing_left();
}

#[test]
fn closures_stay_in_this_process() {
    let (mut world, here) = world_with_engine(1, 1);
    let there = world.join(1, false);
    forget(&mut world);
    let closures = submit(&mut world, 2, &CLOSURE, &Target::Any);
    assert_eq!(world.runs, [(here, closures[0])]);
    finish(&mut world, here);
    assert_eq!(world.runs, sent_to(here, &closures));

    let refused =
        world.submit(vec![wish(&CLOSURE, Target::One(there)), wish(&CLOSURE, Target::Of([here, there].into()))]);
    let settle = |&task: &TaskId| Effect::Settle(task, Attempt(0), TaskError::NotPortable);
    let expected: Vec<Effect> = refused.iter().flat_map(|id| [Effect::Discard(*id), settle(id)]).collect();
    assert_same(&world.effects, &expected);
    world.run_to_the_end();
    world.check_nothing_left();
}

#[test]
fn tasks_settle_at_their_deadlines_in_the_order_of_these() {
    let (mut world, engine) = world_with_engine(1, 1);
    let start = world.now;
    let ms = Duration::from_millis;
    let due = |deadline_ms| Wish { deadline: Some(ms(deadline_ms)), ..wish(&TINY, Target::Any) };
    let tasks = world.submit(vec![due(40), due(10), due(31), due(30), due(20), due(0)]);
    let (running, done_by) = (tasks[0], |world: &World| world.ledger.next_deadline().map(|at| at.since(start)));
    let timed_out = |task, deadline_ms, starts| {
        Effect::Settle(task, Attempt(starts), TaskError::TimedOut { deadline: ms(deadline_ms) })
    };
    assert_eq!(world.runs, [(engine, running)]);
    assert_eq!(done_by(&world), Some(ms(0)));

    let mut at = |later, expected: &[Effect], next| {
        world.effects.clear();
        world.tick(ms(later));
        assert_eq!(world.effects, expected);
        assert_eq!(done_by(&world), next);
    };
    at(0, &[Effect::Discard(tasks[5]), timed_out(tasks[5], 0, 0)], Some(ms(10)));
    at(9, &[], Some(ms(10)));
    at(1, &[Effect::Discard(tasks[1]), timed_out(tasks[1], 10, 0)], Some(ms(20)));
    let overdue = [(tasks[4], 20), (tasks[3], 30), (tasks[2], 31)];
    let expected = overdue.map(|(task, deadline_ms)| [Effect::Discard(task), timed_out(task, deadline_ms, 0)]).concat();
    at(25, &expected, Some(ms(40)));
    at(5, &[Effect::Revoke(engine, running), timed_out(running, 40, 1)], None);

    // One that is done in time is not due any more.
    world.run_to_the_end();
    world.submit(vec![due(1)]);
    finish(&mut world, engine);
    assert_eq!(world.ledger.next_deadline(), None);
    world.effects.clear();
    world.tick(ms(10));
    assert_eq!(world.effects, []);
    world.check_nothing_left();
}

#[test]
fn a_task_that_is_submitted_again_runs_once() {
    let (mut world, engine) = world_with_engine(1, 1);
    let [running, waiting] = [0, 1].map(|_| submit(&mut world, 1, &TINY, &Target::Any)[0]);
    let again = |world: &mut World, id| {
        forget(world);
        world.submit_as(vec![(id, wish(&TINY, Target::Any)), (id, wish(&TINY, Target::One(engine)))]);
        std::mem::take(&mut world.effects)
    };
    let twice = |id| [Effect::Discard(id), Effect::Discard(id)];
    assert_eq!(again(&mut world, running), twice(running));
    assert_eq!(again(&mut world, waiting), twice(waiting));
    assert_eq!(world.ledger.pending(), 2);

    // Cancelled and settled, while the engine still has it.
    world.cancel(&[running]);
    world.confirm(1);
    assert_eq!(world.ledger.pending(), 1);
    assert_eq!(again(&mut world, running), twice(running));

    // Once it has left the ledger nobody remembers it: of two the first runs.
    world.run_to_the_end();
    assert_eq!(again(&mut world, running), [Effect::Discard(running)]);
    assert_eq!(world.runs, [(engine, running)]);
    world.run_to_the_end();
    world.check_nothing_left();
}

#[test]
fn a_cancel_of_more_tasks_than_there_are_gives_up_those_that_are_there() {
    let mut world = World::new(&Limits::default());
    let ids = submit(&mut world, 5, &SHORT, &Target::Any);
    let beyond = Span { first: TaskId { client: ids[0].client + 1, seq: 0 }, count: u32::MAX };
    assert!(world.ledger.on_cancel(&[beyond; 1_000], "so").is_empty());
    let orders = world.ledger.on_cancel(&[Span { first: ids[1], count: u32::MAX }; 1_000], "so");
    let settled = orders.iter().filter_map(|order| match order {
        Order::Settle { tasks, .. } => Some(tasks.first),
        _ => None,
    });
    assert_eq!(settled.collect::<Vec<_>>(), ids[1..]);
}

#[test]
fn of_a_cancel_and_a_finish_the_first_to_reach_the_store_wins() {
    // The outcome was at the store, but the ledger has not heard of it.
    let (mut world, engine) = world_with_engine(1, 1);
    let task = submit(&mut world, 1, &TINY, &Target::Any)[0];
    let late = world.ledger.status().late_outcomes;
    world.finish(engine, 0);
    world.publish(1);
    world.cancel(&[task]);
    let cancel = [Effect::Revoke(engine, task), Effect::Settle(task, Attempt(1), cancelled())];
    assert_eq!(world.effects, cancel);
    world.confirm(1);
    assert_eq!((world.ledger.pending(), world.ledger.status().late_outcomes), (0, late));
    world.confirm(1);
    assert_eq!(world.ledger.status().late_outcomes, late + 1);
    world.check_nothing_left();

    // The outcome was under way.
    forget(&mut world);
    let task = submit(&mut world, 1, &TINY, &Target::Any)[0];
    world.finish(engine, 0);
    world.cancel(&[task]);
    world.confirm(1);
    // It is settled, and its slot is not free yet.
    assert_eq!((world.ledger.pending(), world.ledger.status().engines[0].outstanding), (0, 1));
    world.publish(1);
    world.confirm(1);
    assert_eq!((world.ledger.pending(), world.ledger.status().engines[0].outstanding), (0, 0));
    assert_eq!(world.ledger.status().late_outcomes, late + 2);
    world.check_nothing_left();
}

#[test]
fn a_call_whose_task_was_settled_while_it_waited_is_discarded_by_order() {
    let (mut world, engine) = world_with_engine(1, 1);
    submit(&mut world, 1, &LONG, &Target::Any);
    let task = submit(&mut world, 1, &TINY, &Target::Any)[0];
    forget(&mut world);
    world.report_untrue(task, engine, Attempt(1));
    world.publish(1);
    world.confirm(1);
    assert_eq!(world.effects, [Effect::Discard(task)]);
    world.run_to_the_end();
    world.check_nothing_left();
}

#[test]
fn a_task_whose_call_the_engine_lost_settles_as_lost() {
    let mut ledger = Ledger::new(&Limits::default());
    let (engine, _) = ledger.on_join(EngineOffer { slots: 1, is_local: true, tasks: None });
    let (id, attempt) = (TaskId { client: 7, seq: 0 }, Attempt(1));
    let retries = Retries { errors: 3, losses: 3 };
    ledger.on_submit(Moment::FIRST, vec![Request { retries, ..request(id, Target::Any) }]);
    let orders = ledger
        .on_handed_back(engine, vec![HandBack { id, count: 1, attempt, payload: None, error: None, printed: None }]);
    let lost = TaskError::EngineLost { engine, attempt, cause: "it lost the call".into() };
    assert!(
        matches!(&orders[..], [Order::Settle { tasks: Span { first: task, .. }, attempt: Attempt(1), error, .. }] if *task == id && *error == lost),
        "{orders:?}"
    );
    assert_eq!(ledger.status().engines[0].outstanding, 0);
}

#[test]
fn a_late_outcome_of_an_earlier_task_with_the_same_id_frees_no_slot() {
    let mut ledger = Ledger::new(&Limits::default());
    let (engine, _) = ledger.on_join(EngineOffer { slots: 1, is_local: true, tasks: None });
    let id = TaskId { client: 7, seq: 0 };
    ledger.on_submit(Moment::FIRST, vec![request(id, Target::Any)]);
    let outcome = SettledTask { engine: Some(engine), attempt: Attempt(1), ..confirmed(id) };
    ledger.on_settled(&[SettledTask { won: 0, ..outcome }]);
    assert_eq!(ledger.status().engines[0].outstanding, 1);
    ledger.on_settled(&[outcome]);
    assert_eq!((ledger.status().engines[0].outstanding, ledger.pending()), (0, 0));
}

/// Compares orders of which the order does not matter.
#[test]
fn what_a_lost_engine_had_moves_on_unless_it_had_started_or_is_bound_to_it() {
    let mut ledger = Ledger::new(&Limits::default());
    let (gone, _) = ledger.on_join(EngineOffer { slots: 4, is_local: true, tasks: None });
    let id = |seq| TaskId { client: 1, seq };
    let mut requests: Vec<_> = (0..4).map(|seq| request(id(seq), Target::Any)).collect();
    requests[1].retries.losses = 1;
    requests[3].target = Target::One(gone);
    let runs = ledger.on_submit(Moment::FIRST, requests);
    assert_eq!(runs.iter().filter(|order| matches!(order, Order::Run { .. })).count(), 4);
    let (other, _) = ledger.on_join(EngineOffer { slots: 4, is_local: true, tasks: None });

    // Two had started, one of which may start again; two had not.
    let error = || TaskError::EngineLost { engine: gone, attempt: Attempt(1), cause: "signal: 9".into() };
    let back = |order| {
        let Order::Run { assignment, .. } = order else { return None };
        let error = (assignment.id.seq < 2).then(error);
        let (id, attempt, payload) = (assignment.id, assignment.attempt, Some(assignment.payload));
        Some(HandBack { id, count: 1, attempt, payload, error, printed: None })
    };
    let orders = ledger.on_lost_engine(gone, runs.into_iter().filter_map(back).collect(), "signal: 9");
    let (mut runs, mut settled) = (Vec::new(), Vec::new());
    for order in orders {
        match order {
            Order::Run { engine, assignment } => runs.push((engine, assignment.id.seq, assignment.attempt)),
            Order::Settle { tasks, attempt, error, .. } => settled.push((tasks.first.seq, attempt, error)),
            Order::Expect { .. } | Order::Discard(_) => {}
            other => panic!("{other:?}"),
        }
    }
    // What starts a second time stands at the end of its queue.
    assert_eq!(runs, [(other, 2, Attempt(1)), (other, 1, Attempt(2))]);
    settled.sort_by_key(|(seq, ..)| *seq);
    let bound = TaskError::EngineLost { engine: gone, attempt: Attempt(0), cause: "signal: 9".into() };
    assert_eq!(settled, [(0, Attempt(1), error()), (3, Attempt(0), bound)]);
    assert_eq!(ledger.status().engines.len(), 1);
    assert!(ledger.on_lost_engine(gone, Vec::new(), "again").is_empty());
}

fn assert_same(effects: &[Effect], expected: &[Effect]) {
    let sorted = |effects: &[Effect]| {
        let mut sorted: Vec<String> = effects.iter().map(|effect| format!("{effect:?}")).collect();
        sorted.sort();
        sorted
    };
    assert_eq!(sorted(effects), sorted(expected));
}

fn request(id: TaskId, target: Target) -> Request {
    let payload = Payload::Typed(Box::new(Closure(|| ())));
    Request { id, kind: &TINY, payload, target, retries: Retries::default(), extras: None }
}

/// What the store says of a task that the scheduler settled.
fn confirmed(id: TaskId) -> SettledTask {
    SettledTask { id, count: 1, engine: None, attempt: Attempt(0), ran: None, won: 1 }
}

/// The task `function` of a program, with this fingerprint.
fn kind_of(key: u64, fingerprint: u64) -> &'static TaskKind {
    let name = if key == 1 { "shared" } else { "ours" };
    Box::leak(Box::new(TaskKind { name, version: 1, key, fingerprint, idempotent: false, portable: true }))
}

#[test]
fn a_task_goes_only_where_its_function_is_and_is_refused_where_it_is_nowhere() {
    let mut ledger = Ledger::new(&Limits::default());
    let (shared, ours, changed) = (kind_of(1, 10), kind_of(2, 20), kind_of(1, 11));
    let table = Some(Arc::new(TaskTable::of([shared])));
    let offer = |tasks: &Option<Arc<TaskTable>>| EngineOffer { slots: 1, is_local: false, tasks: tasks.clone() };
    let mut seq = 0;
    let mut submit = |ledger: &mut Ledger, kind, target| {
        seq += 1;
        let (id, payload) = (TaskId { client: 7, seq }, Payload::Typed(Box::new(Closure(|| ()))));
        let request = Request { id, kind, payload, target, retries: Retries::default(), extras: None };
        let orders = ledger.on_submit(Moment::FIRST, vec![request]);
        orders.into_iter().find_map(|order| match order {
            Order::Run { engine, .. } => Some(Ok(engine)),
            Order::Settle { error, .. } => Some(Err(error)),
            _ => None,
        })
    };
    let unknown = |engine, task: &str, lack| Some(Err(TaskError::UnknownTask { engine, task: task.into(), lack }));

    let (first, _) = ledger.on_join(offer(&table));
    assert_eq!(submit(&mut ledger, shared, Target::Any), Some(Ok(first)));
    assert_eq!(submit(&mut ledger, ours, Target::Any), unknown(first, "ours", Lack::Missing));
    assert_eq!(submit(&mut ledger, ours, Target::One(first)), unknown(first, "ours", Lack::Missing));
    assert_eq!(submit(&mut ledger, changed, Target::Any), unknown(first, "shared", Lack::Differs));
    assert_eq!(submit(&mut ledger, ours, Target::Of([first].into())), unknown(first, "ours", Lack::Missing));

    // One that has everything takes what the other has not, and what both have.
    let (second, _) = ledger.on_join(offer(&None));
    assert_eq!(submit(&mut ledger, ours, Target::Any), Some(Ok(second)));
    assert_eq!(submit(&mut ledger, ours, Target::Any), None, "it waits, though an idle engine may come");
    let (third, orders) = ledger.on_join(offer(&table));
    assert!(orders.is_empty(), "it may not run what waits");
    assert_eq!(submit(&mut ledger, shared, Target::Any), Some(Ok(third)));
    assert_eq!(submit(&mut ledger, shared, Target::Any), None, "all are busy");

    // All that have it are gone: it waits for the next.
    for engine in [first, second, third] {
        ledger.on_leave(engine, "gone");
    }
    let (fourth, orders) = ledger.on_join(offer(&table));
    let runs: Vec<_> = orders.iter().filter(|order| matches!(order, Order::Run { .. })).collect();
    assert_eq!(runs.len(), 1, "what it has: {orders:?}");
    assert_eq!(submit(&mut ledger, ours, Target::Any), unknown(fourth, "ours", Lack::Missing));
    let (_, orders) = ledger.on_join(offer(&None));
    assert!(orders.iter().any(|order| matches!(order, Order::Run { .. })), "the one that waited: {orders:?}");
}
