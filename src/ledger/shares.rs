//! Clients take turns: the tasks of each that may run anywhere wait in an open set of its own.
//!
//! An engine takes from its queues in turn, so a client with a million tasks keeps nobody else waiting. The client that
//! comes first has [`ANY`]; each further one that has tasks gets a set with the same engines, and likewise for each
//! function where not every engine has all. A set with no task left is passed on to whoever needs one next, so there are
//! no more than clients had tasks at once; and never more than a limit: beyond it clients share. What is bound to one
//! engine, to a view's engines or to this process waits in one queue for all clients: it is in turn with what may run
//! anywhere, and whoever names engines has chosen to wait for them.

use hashbrown::HashMap;

use super::events::Ledger;
use super::knowing::Function;
use super::queues::{ANY, TargetSets};
use crate::error::TaskError;
use crate::limits::{CLIENT_SETS_MAX, OPEN_SETS_MAX};

/// What waits in an open set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Share {
    /// What an engine has to have; `None`: all tasks of this program.
    pub(super) needs: Option<Function>,
    /// Whose tasks these are; of no client before the first comes.
    pub(super) client: u64,
}

/// Who has an open set, and who is in one of another.
#[derive(Debug, Default)]
pub(super) struct Shares {
    /// The open sets but for `ANY`.
    own: HashMap<Share, u32>,
    /// Clients that have tasks in the set of another, because there were too many.
    guests: HashMap<Share, Guest>,
}

#[derive(Debug)]
struct Guest {
    set: u32,
    /// How many of its tasks are there. With the last one it may get a set of its own.
    tasks: usize,
}

impl Shares {
    /// Returns whether others have tasks in somebody's set.
    pub(super) fn has_guests(&self, set: u32) -> bool {
        self.guests.values().any(|guest| guest.set == set)
    }

    fn on_guest_came(&mut self, set: u32, share: Share) {
        self.guests.entry(share).or_insert(Guest { set, tasks: 0 }).tasks += 1;
    }

    fn on_guest_gone(&mut self, share: Share) {
        let guest = self.guests.get_mut(&share).expect("whoever has tasks in the set of another is noted");
        guest.tasks -= 1;
        if guest.tasks == 0 {
            self.guests.remove(&share);
        }
    }
}

impl TargetSets {
    /// Returns whether `ANY` is this client's.
    pub(super) fn is_first(&self, client: u64) -> bool {
        self.get(ANY).share.is_some_and(|first| first.client == client)
    }

    /// Finds the set that a share has, but for the first.
    pub(super) fn find_share(&self, share: Share) -> Option<u32> {
        let own = self.shares.own.get(&share).copied();
        own.or_else(|| self.shares.guests.get(&share).map(|guest| guest.set))
    }

    /// Notes that there is one task more that aims at a set.
    pub(super) fn on_task_came(&mut self, set: u32, client: u64) {
        let target = self.get_mut(set);
        target.tasks += 1;
        if let Some(owner) = target.share.filter(|owner| owner.client != client) {
            self.shares.on_guest_came(set, Share { client, ..owner });
        }
    }

    /// Notes that there is one task less that aims at a set.
    pub(super) fn on_task_gone(&mut self, set: u32, client: u64) {
        let target = self.get_mut(set);
        target.tasks -= 1;
        if let Some(owner) = target.share.filter(|owner| owner.client != client) {
            self.shares.on_guest_gone(Share { client, ..owner });
        }
    }

    /// Returns the open sets, in order: `ANY` is the first.
    pub(super) fn iter_open(&self) -> impl Iterator<Item = (u32, Share)> {
        self.iter().filter_map(|(set, target)| Some((set, target.share?)))
    }

    /// Gives an open set to another, who has none; the engines are to be the same.
    fn pass_on(&mut self, set: u32, to: Share) {
        let is_held = self.holds.contains(to.client);
        let target = self.get_mut(set);
        target.is_held = is_held;
        let from = target.share.replace(to);
        if set != ANY {
            from.and_then(|from| self.shares.own.remove(&from));
            self.shares.own.insert(to, set);
        }
    }

    /// Returns the set with the fewest tasks of those with the engines that a share needs.
    fn least_used_alike(&self, share: Share) -> Option<u32> {
        let alike = self.iter_open().filter(|(_, other)| other.needs == share.needs);
        alike.map(|(set, _)| set).min_by_key(|&set| self.get(set).tasks)
    }

    /// Forgets an open set that has no tasks.
    pub(super) fn forget_unused_share(&mut self) -> Option<u32> {
        let (unused, whose) = self.iter_open().find(|&(set, _)| set != ANY && self.get(set).tasks == 0)?;
        self.remove(unused);
        self.shares.own.remove(&whose);
        Some(unused)
    }
}

impl Ledger {
    /// Finds the set for the tasks of a client that may run on any engine that has all tasks.
    pub(super) fn share_of_any(&mut self, client: u64) -> Result<u32, TaskError> {
        let share = Share { needs: None, client };
        if self.sets.is_first(client) {
            return Ok(ANY);
        }
        let Some(set) = self.sets.find_share(share) else { return self.new_share(share) };
        let is_unused = |set| self.sets.get(set).tasks == 0;
        if is_unused(set)
            && is_unused(ANY)
            && let Some(gone) = self.sets.get(ANY).share
        {
            // This one takes its place, or it would pay for turns that nobody else takes.
            self.sets.pass_on(set, gone);
            self.sets.pass_on(ANY, share);
            return Ok(ANY);
        }
        Ok(set)
    }

    /// Finds a set for a share that has none.
    pub(super) fn new_share(&mut self, share: Share) -> Result<u32, TaskError> {
        let alike = self.sets.least_used_alike(share);
        if let Some(unused) = alike.filter(|&set| self.sets.get(set).tasks == 0) {
            self.sets.pass_on(unused, share);
            return Ok(unused);
        }
        // The rest is kept for functions: a client that shares may wait longer, a function without a queue is refused.
        let limit = if alike.is_some() { CLIENT_SETS_MAX } else { OPEN_SETS_MAX };
        if !self.has_room_for_share(limit) {
            return alike.ok_or(TaskError::Overloaded { what: "queues of functions", limit: OPEN_SETS_MAX });
        }
        let set = self.sets.add_open(share);
        self.sets.shares.own.insert(share, set);
        let places = self.fleet.places_where(|engine| engine.has(share.needs));
        places.into_iter().for_each(|place| self.enlist(place, set));
        Ok(set)
    }

    /// Returns whether there may be another open set; forgets an unused one where there are too many.
    fn has_room_for_share(&mut self, limit: usize) -> bool {
        let forgotten = if self.sets.shares.own.len() >= limit {
            self.sets.forget_unused_share()
        } else if self.sets.is_full() {
            self.sets.forget_unused()
        } else {
            return true;
        };
        forgotten.into_iter().for_each(|set| self.on_set_forgotten(set));
        forgotten.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ledger::{EngineOffer, Order, Request, SettledTask};
    use crate::limits::{Limits, TARGET_SETS_MAX};
    use crate::task::{Attempt, Closure, EngineId, Moment, Payload, Retries, Target, TaskId, TaskKind, TaskTable};

    /// The function of this number.
    fn kind(key: u64) -> &'static TaskKind {
        let kind = TaskKind { name: "function", version: 1, key, fingerprint: key, idempotent: false, portable: true };
        Box::leak(Box::new(kind))
    }

    fn join(ledger: &mut Ledger, tasks: Option<TaskTable>) -> (EngineId, Vec<Order>) {
        ledger.on_join(EngineOffer { slots: 1, is_local: true, tasks: tasks.map(Arc::new) })
    }

    fn submit(ledger: &mut Ledger, client: u64, seq: u64, kind: &'static TaskKind) -> Vec<Order> {
        submit_to(ledger, client, seq, kind, Target::Any)
    }

    fn submit_to(ledger: &mut Ledger, client: u64, seq: u64, kind: &'static TaskKind, target: Target) -> Vec<Order> {
        let (id, payload) = (TaskId { client, seq }, Payload::Typed(Box::new(Closure(|| ()))));
        let request = Request { id, kind, payload, target, retries: Retries::default(), extras: None };
        ledger.on_submit(Moment::FIRST, vec![request])
    }

    /// A task is cancelled, and gone.
    fn cancel(ledger: &mut Ledger, client: u64, seq: u64) {
        let id = TaskId { client, seq };
        ledger.on_cancel(&[id.into()], "no need");
        let settled = SettledTask { id, count: 1, engine: None, attempt: Attempt(0), ran: None, won: 1 };
        ledger.on_settled(&[settled]);
    }

    /// Returns the tasks that are to run.
    fn runs(orders: &[Order]) -> Vec<(EngineId, TaskId)> {
        let run = |order: &Order| match order {
            Order::Run { engine, assignment } => Some((*engine, assignment.id)),
            _ => None,
        };
        orders.iter().filter_map(run).collect()
    }

    /// Finishes tasks and what is sent for them, until nothing is sent any more. Returns all in that order.
    fn run_out(ledger: &mut Ledger, mut sent: Vec<(EngineId, TaskId)>) -> Vec<TaskId> {
        let mut at = 0;
        while let Some(&(engine, id)) = sent.get(at) {
            at += 1;
            let (engine, attempt) = (Some(engine), Attempt(1));
            let orders = ledger.on_settled(&[SettledTask { id, count: 1, engine, attempt, ran: None, won: 1 }]);
            sent.extend(runs(&orders));
        }
        sent.into_iter().map(|(_, id)| id).collect()
    }

    fn counts(ledger: &Ledger) -> (usize, usize, usize) {
        let shares = &ledger.sets.shares;
        (ledger.sets.iter().count(), shares.own.len(), shares.guests.len())
    }

    #[test]
    fn one_client_has_the_first_set_and_needs_no_other_also_when_it_is_the_last_of_several() {
        let (mut ledger, kind) = (Ledger::new(&Limits::default()), kind(1));
        submit(&mut ledger, 7, 0, kind);
        submit(&mut ledger, 7, 1, kind);
        assert_eq!((ledger.sets.get(ANY).queue.len(), counts(&ledger)), (2, (2, 0, 0)));
        submit(&mut ledger, 8, 0, kind);
        assert_eq!((ledger.sets.get(ANY).queue.len(), counts(&ledger)), (2, (3, 1, 0)));

        let (_, orders) = join(&mut ledger, None);
        run_out(&mut ledger, runs(&orders));
        let orders = submit(&mut ledger, 8, 1, kind);
        assert_eq!((ledger.sets.get(ANY).tasks, counts(&ledger)), (1, (3, 1, 0)), "the first is gone");
        submit(&mut ledger, 7, 2, kind);
        assert_eq!((ledger.sets.get(ANY).queue.len(), counts(&ledger)), (0, (3, 1, 0)), "it comes second now");
        assert_eq!(run_out(&mut ledger, runs(&orders)).len(), 2);
    }

    #[test]
    fn a_hundred_thousand_clients_one_after_the_other_leave_nothing_behind() {
        let (mut ledger, kind) = (Ledger::new(&Limits::default()), kind(1));
        let comes_and_goes = |ledger: &mut Ledger, client| {
            submit(ledger, client, 0, kind);
            cancel(ledger, client, 0);
        };
        (0..50_000).for_each(|client| comes_and_goes(&mut ledger, client));
        assert_eq!((ledger.pending(), counts(&ledger)), (0, (2, 0, 0)));
        // Also while there is one that stays.
        submit(&mut ledger, 1_000_000, 0, kind);
        (50_000..100_000).for_each(|client| comes_and_goes(&mut ledger, client));
        assert_eq!((ledger.pending(), counts(&ledger)), (1, (3, 1, 0)));
        assert!(ledger.sets.shares.own.capacity() < 10 && ledger.sets.shares.guests.capacity() < 10);
    }

    #[test]
    fn beyond_the_limit_clients_share_and_each_keeps_its_order() {
        let (mut ledger, kind) = (Ledger::new(&Limits::default()), kind(1));
        let clients = CLIENT_SETS_MAX as u64 + 50;
        for seq in 0..4 {
            (0..clients).for_each(|client| drop(submit(&mut ledger, client, seq, kind)));
        }
        // One has the first set.
        assert_eq!(counts(&ledger), (2 + CLIENT_SETS_MAX, CLIENT_SETS_MAX, 49));
        let crowded = ledger.sets.iter_open().map(|(set, _)| ledger.sets.get(set).tasks).max();
        assert_eq!(crowded, Some(8), "they are spread");

        let (_, orders) = join(&mut ledger, None);
        let ran = run_out(&mut ledger, runs(&orders));
        assert_eq!((ran.len(), ledger.pending()), (4 * clients as usize, 0));
        for client in 0..clients {
            let seqs: Vec<u64> = ran.iter().filter(|id| id.client == client).map(|id| id.seq).collect();
            assert_eq!(seqs, [0, 1, 2, 3], "of client {client}");
        }
        assert_eq!(counts(&ledger), (2 + CLIENT_SETS_MAX, CLIENT_SETS_MAX, 0));
    }

    #[test]
    fn a_set_that_a_view_named_makes_room_for_a_client_once_nothing_aims_at_it() {
        let (mut ledger, kind) = (Ledger::new(&Limits::default()), kind(1));
        let (engine, _) = join(&mut ledger, None);
        submit(&mut ledger, 7, 0, kind);
        submit(&mut ledger, 7, 1, kind);
        for seq in 2..TARGET_SETS_MAX as u64 {
            submit_to(&mut ledger, 7, seq, kind, Target::Of([engine].into()));
        }
        submit(&mut ledger, 8, 0, kind);
        assert_eq!(counts(&ledger), (TARGET_SETS_MAX, 0, 1), "it shares");
        cancel(&mut ledger, 7, 100);
        submit(&mut ledger, 9, 0, kind);
        assert_eq!(counts(&ledger), (TARGET_SETS_MAX, 1, 1));
        // And the other way.
        cancel(&mut ledger, 9, 0);
        let of_view = submit_to(&mut ledger, 9, 1, kind, Target::Of([engine].into()));
        assert_eq!((of_view.len(), counts(&ledger)), (0, (TARGET_SETS_MAX, 0, 1)));
        let place = ledger.fleet.find(engine).expect("it is there");
        assert_eq!(ledger.fleet.get(place).sets.iter().count(), TARGET_SETS_MAX);
    }

    #[test]
    fn a_function_finds_a_queue_however_many_clients_there_are_and_is_refused_when_all_queues_are_in_use() {
        let mut ledger = Ledger::new(&Limits::default());
        let kinds: Vec<_> = (0..600).map(kind).collect();
        let (engine, _) = join(&mut ledger, Some(TaskTable::of(kinds.iter().copied())));
        let first = submit(&mut ledger, 0, 0, kinds[0]);
        (1..1_000).for_each(|client| drop(submit(&mut ledger, client, 0, kinds[0])));
        assert_eq!(counts(&ledger), (2 + CLIENT_SETS_MAX, CLIENT_SETS_MAX, 1_000 - CLIENT_SETS_MAX));
        let mut refused = Vec::new();
        for (seq, kind) in (1..).zip(&kinds[1..]) {
            let orders = submit(&mut ledger, 0, seq, kind);
            refused.extend(orders.into_iter().filter_map(|order| match order {
                Order::Settle { error, .. } => Some(error),
                _ => None,
            }));
        }
        assert_eq!(counts(&ledger).1, OPEN_SETS_MAX);
        let full = TaskError::Overloaded { what: "queues of functions", limit: OPEN_SETS_MAX };
        assert_eq!(refused, vec![full; 599 - (OPEN_SETS_MAX - CLIENT_SETS_MAX)]);

        // What is in use no more is forgotten for what is wanted, and its engines forget it, too.
        run_out(&mut ledger, runs(&first));
        let sent = submit(&mut ledger, 0, 1_000, kinds[599]);
        assert_eq!((runs(&sent).len(), counts(&ledger)), (1, (2 + OPEN_SETS_MAX, OPEN_SETS_MAX, 0)));
        let place = ledger.fleet.find(engine).expect("it is there");
        let member_of = ledger.fleet.get(place).sets.iter();
        let mut sets = ledger.sets.iter().filter(|(_, set)| set.members.contains(place as usize));
        assert!(member_of.eq(sets.by_ref().map(|(set, _)| set as usize)));
    }
}
