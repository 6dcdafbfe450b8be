//! How many tasks an engine may run before another takes its place: whatever they leak ends with its process.
//!
//! It is retired when it has been sent as many. What it was sent it keeps, so that it runs as many as it may, and no fewer.

use std::sync::atomic::Ordering;

use super::fate::Fate;
use super::gateway::Gateway;
use crate::ledger::{Assignment, HandBack};
use crate::messages::Retire;
use crate::task::EngineId;

/// Why an engine leaves that has run as many tasks as it may.
pub(crate) const WORN_OUT: &str = "it has run as many tasks as one engine may";

/// How many more tasks an engine may be sent.
#[derive(Debug)]
pub(super) struct Allowance {
    /// `None` if that is not bounded.
    left: Option<u32>,
    /// It has been retired for that, and is about to be asked to hand back what it has not begun.
    keeps: bool,
}

impl Allowance {
    pub(super) fn of(tasks_max: Option<u32>) -> Self {
        Self { left: tasks_max, keeps: false }
    }

    /// Parts what is sent in what the engine may run, and what goes back.
    fn part(&mut self, batch: Vec<Assignment>) -> (Vec<Assignment>, Vec<Assignment>) {
        let Some(left) = &mut self.left else { return (batch, Vec::new()) };
        let (mut taken, mut back) = (Vec::with_capacity(batch.len()), Vec::new());
        for mut assignment in batch {
            let count = assignment.payload.count();
            if *left > 0
                && let Some(front) = assignment.split_front(*left)
            {
                taken.push(front);
                *left = 0;
            }
            if *left == 0 {
                back.push(assignment);
            } else {
                *left -= count;
                taken.push(assignment);
            }
        }
        (taken, back)
    }

    fn is_used_up(&self) -> bool {
        self.left == Some(0)
    }

    /// It has not begun so many of those that it was sent.
    pub(super) fn give_back(&mut self, tasks: u32) {
        // One that goes is sent nothing more.
        if let Some(left) = self.left.as_mut().filter(|left| **left > 0) {
            *left = left.saturating_add(tasks);
        }
    }

    /// It is told to go. Whoever has removed it since it was worn out wants no other in its place.
    pub(super) fn on_stop(&self, cause: &str, fate: &Fate) {
        if cause != WORN_OUT {
            fate.is_worn_out.store(false, Ordering::Release);
        }
    }

    /// It is to hand back what it has not begun; returns whether it keeps that all the same.
    pub(super) fn keeps_what_it_has(&mut self) -> bool {
        std::mem::take(&mut self.keeps)
    }
}

impl Gateway {
    /// Takes as much of what is sent as the engine may still run; the rest goes back, and the engine goes.
    pub(super) fn within_bounds(&mut self, engine: EngineId, batch: Vec<Assignment>) -> Vec<Assignment> {
        let (taken, back) = self.allowance.part(batch);
        if self.allowance.is_used_up() && !self.parts.fate.is_worn_out.swap(true, Ordering::AcqRel) {
            self.allowance.keeps = true;
            // Before what goes back, or it would be sent here again.
            self.parts.scheduler.do_send(Retire { engines: vec![engine], cause: WORN_OUT.into() });
        }
        self.hand_back(back.into_iter().map(HandBack::unstarted).collect());
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{Attempt, Closure, Payload, TaskId};

    fn assignment(seq: u64) -> Assignment {
        Assignment {
            id: TaskId { client: 7, seq },
            attempt: Attempt(1),
            may_retry: false,
            payload: Payload::Typed(Box::new(Closure(|| ()))),
            extras: None,
        }
    }

    /// Returns how many tasks are taken, and how many go back.
    fn parted(allowance: &mut Allowance, tasks: u64) -> (usize, usize) {
        let (taken, back) = allowance.part((0..tasks).map(assignment).collect());
        assert!(taken.iter().chain(&back).map(|assignment| assignment.id.seq).eq(0..tasks), "the first are taken");
        (taken.len(), back.len())
    }

    #[test]
    fn an_engine_is_sent_as_many_tasks_as_it_may_run() {
        let mut allowance = Allowance::of(Some(5));
        assert_eq!(parted(&mut allowance, 3), (3, 0));
        assert!(!allowance.is_used_up());
        assert_eq!(parted(&mut allowance, 4), (2, 2));
        assert!(allowance.is_used_up());
        assert_eq!(parted(&mut allowance, 1), (0, 1));
        allowance.give_back(1);
        assert!(allowance.is_used_up(), "it goes already");
        let mut some_back = Allowance::of(Some(5));
        assert_eq!(parted(&mut some_back, 4), (4, 0));
        some_back.give_back(3);
        assert_eq!(parted(&mut some_back, 9), (4, 5));
        let mut endless = Allowance::of(None);
        assert_eq!(parted(&mut endless, 1_000), (1_000, 0));
        assert!(!endless.is_used_up());
    }

    #[test]
    fn whoever_removes_it_wants_no_other_in_its_place() {
        for (cause, is_replaced) in [(WORN_OUT, true), ("it was removed from the cluster", false)] {
            let (allowance, fate) = (Allowance::of(Some(1)), Fate::default());
            fate.is_worn_out.store(true, Ordering::Release);
            allowance.on_stop(cause, &fate);
            assert_eq!(fate.is_worn_out.load(Ordering::Acquire), is_replaced, "{cause}");
        }
    }

    #[test]
    fn it_keeps_what_it_has_where_it_goes_for_that_and_once() {
        let mut allowance = Allowance::of(Some(1));
        assert!(!allowance.keeps_what_it_has(), "another engine is idle");
        allowance.keeps = true;
        assert_eq!((allowance.keeps_what_it_has(), allowance.keeps_what_it_has()), (true, false));
    }
}
