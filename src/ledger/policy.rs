//! Which of the engines that may take a task gets it: the schemes of ipyparallel's task scheduler.

use super::bits::Bits;
use super::candidates::Candidates;
use super::engine::Engine;
use super::fleet::Fleet;
use super::placement::FITS_MAX;

/// How the scheduler chooses among the engines that may take a task now.
///
/// Whatever the policy, an engine may take a task only while it has an idle slot, or is expected to be through
/// with what it has soon; a task that no engine may take waits, and goes to the first that may.
///
/// ```
/// use callboard::{Policy, prelude::*};
/// # #[task] fn engine(cx: &TaskContext) -> u32 { cx.engine().map_or(0, |engine| engine.0) }
///
/// let cluster = Cluster::threads(3).policy(Policy::Lru).start()?;
/// let view = cluster.client().load_balanced();
/// let engines: Vec<u32> = (0..6).map(|_| view.apply(engine()).get()).collect::<Result<_, _>>()?;
/// assert_eq!(engines, [0, 1, 2, 0, 1, 2]);
/// # Ok::<(), callboard::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Policy {
    /// The one with the least to do.
    #[default]
    LeastLoad,
    /// The one that was given a task the longest time ago, whatever it has to do.
    Lru,
    /// Any one, at random.
    PlainRandom,
    /// Of two at random, the one that was given a task the longer time ago.
    TwoBin,
    /// Of two at random, each the likelier the less it has to do, the one with less to do.
    Weighted,
}

/// A small generator of random numbers (xorshift64*): the choice of an engine needs nothing better.
#[derive(Debug)]
pub(super) struct Random(u64);

/// How often an engine is drawn that may not take the task, before those that may are listed.
const DRAWS: usize = 16;

impl Random {
    /// Makes a generator that gives the same numbers for the same seed.
    pub(super) fn new(seed: u64) -> Self {
        // Never zero, which would stay zero.
        Self(seed | 1 << 63)
    }

    /// Returns a number below `bound`, which is not zero.
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        (number as usize) % bound
    }
}

impl Fleet {
    /// Chooses an engine of `members` (all, if `None`) that may take a task now.
    pub(super) fn pick(&mut self, members: Option<&Bits>, cost_ns: u32) -> Option<u32> {
        match self.policy {
            Policy::LeastLoad => self.least_loaded(members, cost_ns),
            Policy::Lru => match members {
                None => self.first_in_line(cost_ns),
                Some(members) => self.first_in_line_of(members, cost_ns),
            },
            Policy::PlainRandom => self.any(members, cost_ns),
            Policy::TwoBin => {
                let (one, other) = (self.any(members, cost_ns)?, self.any(members, cost_ns)?);
                Some(if self.get(other).last_given < self.get(one).last_given { other } else { one })
            }
            Policy::Weighted => {
                let (one, other) = (self.weighted(members, cost_ns)?, self.weighted(members, cost_ns)?);
                Some(if load(self.get(other)) < load(self.get(one)) { other } else { one })
            }
        }
    }

    /// Returns an engine at random, of those that may take the task each as likely as any other.
    fn any(&mut self, members: Option<&Bits>, cost_ns: u32) -> Option<u32> {
        let places = self.places();
        if places == 0 {
            return None;
        }
        // Where most of them may, this is all.
        for _ in 0..DRAWS {
            let drawn = self.random.below(places) as u32;
            if self.may_take(drawn, members, cost_ns) {
                return Some(drawn);
            }
        }
        let mut candidates = self.candidates(members, cost_ns);
        for _ in 0..FITS_MAX {
            let drawn = self.one_of(&candidates)?;
            if self.may_take(drawn, None, cost_ns) {
                return Some(drawn);
            }
            candidates.remove(drawn);
        }
        let idle = self.idle(members);
        self.one_of(&idle)
    }

    fn one_of(&mut self, candidates: &Candidates) -> Option<u32> {
        let len = candidates.len();
        (len > 0).then(|| candidates.nth(self.random.below(len)))
    }

    /// Returns one at random, the likelier the less it has to do.
    fn weighted(&mut self, members: Option<&Bits>, cost_ns: u32) -> Option<u32> {
        let mut last = None;
        for _ in 0..DRAWS {
            let drawn = self.any(members, cost_ns)?;
            // Kept with a chance of one in one more than it has to do.
            let has = load(self.get(drawn)).0 as usize;
            if self.random.below(has + 1) == 0 {
                return Some(drawn);
            }
            last = Some(drawn);
        }
        last
    }
}

/// What an engine has to do.
fn load(engine: &Engine) -> (u32, u64) {
    (engine.outstanding, engine.backlog_ns)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ledger::EngineOffer;
    use crate::ledger::engine::Ahead;
    use crate::task::EngineId;

    const ALL: [Policy; 5] = [Policy::LeastLoad, Policy::Lru, Policy::PlainRandom, Policy::TwoBin, Policy::Weighted];
    const AHEAD: Ahead = Ahead { backlog_ns: 500_000, outstanding: 100 };

    fn fleet(policy: Policy, engines: u32) -> Fleet {
        let mut fleet = Fleet::new(AHEAD, policy, 7);
        for id in 0..engines {
            fleet.add(Engine::new(EngineId(id), EngineOffer { slots: 1, is_local: true, tasks: None }));
        }
        fleet
    }

    /// Picks so often, has each come back at once, and counts who was picked.
    fn shares(fleet: &mut Fleet, picks: usize) -> Vec<usize> {
        let mut shares = vec![0; fleet.len() as usize];
        for _ in 0..picks {
            let place = fleet.pick(None, 1_000).expect("there is room");
            shares[place as usize] += 1;
            fleet.on_sent(place, 1_000, 1);
            fleet.on_returned(place, 1_000, 1);
        }
        shares
    }

    #[test]
    fn idle_engines_get_their_shares() {
        let chi_square = |shares: &[usize]| {
            let expected = shares.iter().sum::<usize>() as f64 / shares.len() as f64;
            shares.iter().map(|&n| (n as f64 - expected).powi(2) / expected).sum::<f64>()
        };
        for policy in [Policy::PlainRandom, Policy::TwoBin, Policy::Weighted] {
            let shares = shares(&mut fleet(policy, 10), 10_000);
            // With 9 degrees of freedom 1 in 1 000 is above 27.9; two-bin is more even than chance.
            assert!(chi_square(&shares) < 27.9, "{policy:?}: {shares:?}");
        }
        assert_eq!(shares(&mut fleet(Policy::Lru, 10), 100), vec![10; 10], "in turn");
        assert_eq!(shares(&mut fleet(Policy::LeastLoad, 3), 100), [100, 0, 0], "the first, whose thread is awake");
    }

    #[test]
    fn a_few_engines_of_many_get_their_shares_too() {
        for policy in [Policy::Lru, Policy::PlainRandom, Policy::TwoBin, Policy::Weighted] {
            let mut fleet = fleet(policy, 1_000);
            let mut members = Bits::default();
            [0, 1, 63, 64, 500, 999].into_iter().for_each(|member| members.insert(member));
            let mut shares = [0; 1_000];
            for _ in 0..6_000 {
                let place = fleet.pick(Some(&members), 1_000).expect("there is room");
                shares[place as usize] += 1;
                fleet.on_sent(place, 1_000, 1);
                fleet.on_returned(place, 1_000, 1);
            }
            let shares: Vec<usize> = members.iter().map(|member| shares[member]).collect();
            // 29 is the standard deviation of chance.
            assert!(shares.iter().all(|share| (850..1_150).contains(share)), "{policy:?}: {shares:?}");
            assert!(policy != Policy::Lru || shares == [1_000; 6], "in turn: {shares:?}");
        }
    }

    #[test]
    fn an_idle_engine_is_found_among_many_that_a_task_does_not_fit_on() {
        for policy in [Policy::LeastLoad, Policy::Lru, Policy::PlainRandom, Policy::TwoBin, Policy::Weighted] {
            let mut fleet = fleet(policy, 500);
            let mut members = Bits::default();
            (0..500).for_each(|member| members.insert(member));
            (0..500).filter(|&place| place != 321).for_each(|place| fleet.on_sent(place, 300_000, 1));
            // The longest in line is the one that is not idle.
            fleet.on_sent(321, 1_000, 1);
            fleet.on_returned(321, 1_000, 1);
            for members in [None, Some(&members)] {
                assert_eq!(fleet.pick(members, 250_000), Some(321), "{policy:?}");
            }
        }
    }

    #[test]
    fn the_loaded_are_spared_by_those_that_look_at_the_load() {
        let share_of_idle = |policy| {
            let mut fleet = fleet(policy, 4);
            for place in 1..4 {
                (0..8).for_each(|_| fleet.on_sent(place, 1_000, 1));
            }
            shares(&mut fleet, 1_000)[0]
        };
        assert_eq!(share_of_idle(Policy::LeastLoad), 1_000);
        assert!(share_of_idle(Policy::Weighted) > 850, "{}", share_of_idle(Policy::Weighted));
        assert_eq!(share_of_idle(Policy::Lru), 250);
        assert!((150..350).contains(&share_of_idle(Policy::PlainRandom)));
    }

    #[test]
    fn the_same_seed_chooses_the_same() {
        let once = || shares(&mut fleet(Policy::PlainRandom, 7), 99);
        assert_eq!(once(), once());
    }

    proptest! {
        #[test]
        fn each_policy_picks_who_may_take_the_task_and_somebody_if_anybody_may(
            loads in prop::collection::vec((0..6_usize, any::<bool>(), any::<bool>()), 0..20),
            members in prop::option::of(prop::collection::vec(0..25_usize, 0..12)),
            policy in prop::sample::select(ALL.to_vec()),
            cost_ns in prop_oneof![Just(1_000_u32), Just(300_000), Just(600_000)],
        ) {
            let mut fleet = fleet(policy, loads.len() as u32);
            for (place, &(tasks, is_draining, is_retiring)) in (0..).zip(&loads) {
                (0..tasks).for_each(|_| fleet.on_sent(place, 100_000, 1));
                let engine = fleet.get_mut(place);
                engine.is_draining = is_draining;
                engine.retiring = is_retiring.then(|| "it is not needed".into());
                fleet.list(place);
            }
            let members = members.map(|members| {
                let mut bits = Bits::default();
                members.into_iter().for_each(|member| bits.insert(member));
                bits
            });
            let may = |place: u32| {
                let engine = fleet.get(place);
                let is_member = members.as_ref().is_none_or(|bits| bits.iter().any(|member| member == place as usize));
                is_member && !engine.is_draining && engine.can_take(cost_ns, AHEAD)
            };
            let who_may: Vec<u32> = (0..loads.len() as u32).filter(|&place| may(place)).collect();
            let longest_ago = who_may.iter().copied().min_by_key(|&place| (fleet.get(place).last_given, place));
            match fleet.pick(members.as_ref(), cost_ns) {
                picked if policy == Policy::Lru => prop_assert_eq!(picked, longest_ago),
                Some(place) => prop_assert!(who_may.contains(&place), "{policy:?} picks {place} of {who_may:?}"),
                None => prop_assert!(who_may.is_empty() || policy == Policy::LeastLoad, "{policy:?}: {who_may:?}"),
            }
        }
    }
}
