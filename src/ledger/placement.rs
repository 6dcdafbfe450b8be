//! Which engine a task should go to, by how loaded they are or by who was given none for the longest time.

use super::bits::Bits;
use super::engine::LEVELS;
use super::fleet::Fleet;

/// How many engines of one load are tried for a task that may just not fit.
const TRIES: usize = 4;

/// How many engines are tried for a task that may just not fit, where the policy does not look at the load; then
/// those with an idle slot, which may take any.
pub(super) const FITS_MAX: usize = 64;

impl Fleet {
    /// Returns whether there is an engine at this place, one of `members`, that may take a task now.
    pub(super) fn may_take(&self, place: u32, members: Option<&Bits>, cost_ns: u32) -> bool {
        let Some(engine) = self.engines.get(place as usize) else { return false };
        let is_member = members.is_none_or(|members| members.contains(place as usize));
        is_member && engine.level.is_some() && engine.can_take(cost_ns, self.ahead())
    }

    /// Returns the least loaded engine of `members` (all, if `None`) that may take a task now.
    ///
    /// Of equals the first is taken: it ran last, and its thread is likely awake.
    pub(super) fn least_loaded(&self, members: Option<&Bits>, cost_ns: u32) -> Option<u32> {
        let levels = if self.is_short(cost_ns) { LEVELS } else { 1 };
        for level in &self.levels[..levels] {
            let mut from = 0;
            for _ in 0..TRIES {
                let Some(place) = level.first_from(from, members) else { break };
                if self.engines[place].can_take(cost_ns, self.ahead()) {
                    return Some(place as u32);
                }
                from = place + 1;
            }
        }
        None
    }

    /// Returns whether a task may be sent ahead: a long one waits for an idle slot.
    pub(super) fn is_short(&self, cost_ns: u32) -> bool {
        u64::from(cost_ns) < self.ahead().backlog_ns
    }

    /// Returns the engine that may take a task now and was given one the longest time ago.
    pub(super) fn first_in_line(&self, cost_ns: u32) -> Option<u32> {
        let [idle, busy] = &self.lines;
        let is_good = |&&(_, place): &&(u64, u32)| self.may_take(place, None, cost_ns);
        let first_busy = if self.is_short(cost_ns) { busy.iter().take(FITS_MAX).find(is_good) } else { None };
        idle.first().into_iter().chain(first_busy).min().map(|&(_, place)| place)
    }

    /// Returns the engine of `members` that may take a task now and was given one the longest time ago.
    pub(super) fn first_in_line_of(&self, members: &Bits, cost_ns: u32) -> Option<u32> {
        let mut candidates = self.candidates(Some(members), cost_ns);
        for _ in 0..FITS_MAX {
            let oldest = self.ages.oldest(candidates.clone())?;
            if self.may_take(oldest, None, cost_ns) {
                return Some(oldest);
            }
            candidates.remove(oldest);
        }
        self.ages.oldest(self.idle(Some(members)))
    }
}
