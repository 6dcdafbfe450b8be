//! Holding a thread on one processor, where the system lets us.

#[cfg(not(target_os = "linux"))]
pub(super) use elsewhere::{pin_to, two_processors};
#[cfg(target_os = "linux")]
pub(super) use linux::{pin_to, two_processors};

#[cfg(target_os = "linux")]
mod linux {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    use crate::cli::bench::Fallible;

    /// Returns two processors that this program may use; `None` if it may use only one.
    pub(in crate::cli::bench) fn two_processors() -> Option<[usize; 2]> {
        let allowed = sched_getaffinity(None).ok()?;
        let mut allowed = (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu));
        Some([allowed.next()?, allowed.next()?])
    }

    /// Holds the calling thread, and the threads it starts from now on, on one processor.
    pub(in crate::cli::bench) fn pin_to(processor: usize) -> Fallible<()> {
        let mut only = CpuSet::new();
        only.set(processor);
        Ok(sched_setaffinity(None, &only)?)
    }
}

#[cfg(not(target_os = "linux"))]
mod elsewhere {
    use crate::cli::bench::Fallible;

    /// Returns `None`: nothing can be pinned here.
    pub(in crate::cli::bench) fn two_processors() -> Option<[usize; 2]> {
        None
    }

    /// Refuses.
    pub(in crate::cli::bench) fn pin_to(_: usize) -> Fallible<()> {
        Err("threads cannot be pinned on this system".into())
    }
}
