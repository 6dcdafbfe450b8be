//! One engine: what it has, and whether it may take a task.
//!
//! It may if it has an idle slot, or if the task and all that was sent there before are expected to run for less than the
//! backlog limit: so tiny tasks are sent ahead by the thousand, and no task waits behind a long one while another engine is
//! idle.

use std::sync::Arc;

use super::bits::Mask;
use super::orders::EngineOffer;
use super::queues::Queue;
use crate::task::{EngineId, TaskTable};

/// Loads are told apart by powers of two: 0 is an idle slot.
pub(super) const LEVELS: usize = 8;

/// One engine, as the scheduler sees it.
#[derive(Debug)]
pub(super) struct Engine {
    pub(super) id: EngineId,
    pub(super) slots: u32,
    pub(super) is_local: bool,
    /// The tasks that it can run, if these are not all.
    pub(super) tasks: Option<Arc<TaskTable>>,
    /// Tasks sent and not yet returned.
    pub(super) outstanding: u32,
    /// Tasks that were settled by what it returned.
    pub(super) settled: u64,
    /// What those sent are expected to take, in nanoseconds.
    pub(super) backlog_ns: u64,
    /// Tasks for this engine and no other.
    pub(super) direct: Queue,
    /// The target sets it is a member of.
    pub(super) sets: Mask,
    /// The task at the head of a queue does not fit yet. Nothing else is sent until it does, or a stream
    /// of small tasks would keep it waiting for ever.
    pub(super) is_draining: bool,
    /// Of the tasks sent and not yet returned, those that another engine might run.
    pub(super) movable: u32,
    /// It has returned nothing since the last look; see `recall.rs`.
    pub(super) is_silent: bool,
    /// It was asked to hand back what it has not started, and has returned nothing since.
    pub(super) is_recalled: bool,
    /// Where the round over its queues goes on: 0 is its own queue, `s + 1` that of set `s`.
    pub(super) turn: usize,
    /// Why it is to go: nothing more is sent to it, and it leaves when it has returned what it has.
    pub(super) retiring: Option<Box<str>>,
    /// It is lost, and whoever stands for it has still to hand back what it had.
    pub(super) is_failing: bool,
    /// The count of tasks given when it was last given one.
    pub(super) last_given: u64,
    /// Where it stands in line, and since which count.
    pub(super) in_line: Option<(usize, u64)>,
    /// Under which load it is listed.
    pub(super) level: Option<u8>,
    /// Whether it is listed as one that has more than it can run at once.
    pub(super) is_giver: bool,
}

/// What may be sent to an engine ahead of time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ahead {
    pub(super) backlog_ns: u64,
    pub(super) outstanding: u32,
}

impl Engine {
    pub(super) fn new(id: EngineId, offer: EngineOffer) -> Self {
        let EngineOffer { slots, is_local, tasks } = offer;
        Self {
            id,
            slots: slots.max(1),
            is_local,
            tasks,
            outstanding: 0,
            settled: 0,
            backlog_ns: 0,
            direct: Queue::default(),
            sets: Mask::default(),
            is_draining: false,
            movable: 0,
            is_silent: false,
            is_recalled: false,
            retiring: None,
            is_failing: false,
            last_given: 0,
            in_line: None,
            turn: 0,
            level: None,
            is_giver: false,
        }
    }

    pub(super) fn can_take(&self, cost_ns: u32, ahead: Ahead) -> bool {
        let cost_ns = u64::from(cost_ns);
        let room_ns = ahead.backlog_ns.saturating_mul(self.slots.into());
        // With several slots there may be room for a long task too, but it waits for an idle one.
        let is_short = cost_ns < ahead.backlog_ns;
        if self.retiring.is_some() {
            return false;
        }
        self.outstanding < self.slots
            || (is_short
                && !self.is_recalled
                && self.outstanding < ahead.outstanding
                && self.backlog_ns + cost_ns <= room_ns)
    }

    /// Returns how much expected run time may be sent, in nanoseconds; an idle engine takes a whole backlog.
    pub(super) fn room_ns(&self, ahead: Ahead) -> u64 {
        let room_ns = ahead.backlog_ns.saturating_mul(self.slots.into()).saturating_sub(self.backlog_ns);
        if self.outstanding < self.slots { room_ns.max(ahead.backlog_ns) } else { room_ns }
    }

    pub(super) fn level_now(&self, ahead: Ahead) -> Option<u8> {
        if self.is_draining || self.retiring.is_some() {
            return None;
        }
        if self.outstanding < self.slots {
            return Some(0);
        }
        let load = (self.outstanding / self.slots).ilog2() as usize;
        self.can_take(1, ahead).then_some((1 + load).min(LEVELS - 1) as u8)
    }
}
