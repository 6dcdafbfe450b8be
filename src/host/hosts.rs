//! The hosts of a cluster, and on which of them engines are started.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::attached::{Attached, HostJob, Shipment};

/// Those that are there.
#[derive(Default)]
pub(crate) struct Hosts(Mutex<Vec<Arc<Attached>>>);

/// Why nothing is started now.
#[derive(Debug)]
pub(crate) enum NotNow {
    /// A host lacks the program, and what is in it was not given.
    Wanted,
    /// There is no room: in words, of each host.
    NoRoom(String),
}

impl Hosts {
    pub(crate) fn attach(&self, host: Arc<Attached>) {
        self.0.lock().push(host);
    }

    pub(crate) fn detach(&self, host: &Arc<Attached>) {
        self.0.lock().retain(|other| !Arc::ptr_eq(other, host));
    }

    /// Starts `n` engines of a shipment, on those hosts that have most room; `program` is what is in it, if that is known here.
    ///
    /// # Errors
    /// Why none was started.
    pub(crate) fn start(
        self: &Arc<Self>,
        shipment: &Arc<Shipment>,
        program: Option<&Bytes>,
        n: usize,
    ) -> Result<Vec<HostJob>, NotNow> {
        // Held to the end: what is free is not given away twice.
        let hosts = self.0.lock();
        let rooms: Vec<_> = hosts.iter().map(|host| host.room_for(&shipment.program)).collect();
        let free: Vec<_> = rooms.iter().map(|room| room.clone().unwrap_or(0)).collect();
        let Some(shares) = dealt(&free, n) else { return Err(NotNow::NoRoom(told(&hosts, &rooms, n))) };
        let lacks = |host: &Attached| !host.has(shipment.program.hash);
        let mut lacking = hosts.iter().zip(&shares).filter(|(host, share)| **share > 0 && lacks(host)).peekable();
        if lacking.peek().is_some() {
            let program = program.ok_or(NotNow::Wanted)?;
            lacking.for_each(|(host, _)| host.ship(&shipment.program, program.clone()));
        }
        let places = hosts.iter().zip(shares).flat_map(|(host, share)| std::iter::repeat_n(host, share));
        Ok((0..).zip(places).map(|(job, host)| host.start(shipment, job, Arc::downgrade(self))).collect())
    }

    /// Starts one of a shipment in the place of one that has died, on the host that has most room of those to which the program was
    /// shipped.
    ///
    /// # Errors
    /// Why none can, in words.
    pub(super) fn start_again(self: &Arc<Self>, shipment: &Arc<Shipment>, job: u32) -> Result<HostJob, String> {
        // Held to the end, as above.
        let all = self.0.lock();
        let hosts: Vec<_> = all.iter().filter(|host| host.has(shipment.program.hash)).cloned().collect();
        let rooms: Vec<_> = hosts.iter().map(|host| host.room_for(&shipment.program)).collect();
        let free: Vec<_> = rooms.iter().map(|room| room.clone().unwrap_or(0)).collect();
        let Some(shares) = dealt(&free, 1) else { return Err(told(&hosts, &rooms, 1)) };
        let (host, _) = hosts.iter().zip(shares).find(|(_, share)| *share > 0).expect("one was dealt out");
        Ok(host.start(shipment, job, Arc::downgrade(self)))
    }
}

/// Deals engines out, each to where most is free; `None` if there is no room for all.
fn dealt(free: &[usize], n: usize) -> Option<Vec<usize>> {
    let (mut free, mut shares) = (free.to_vec(), vec![0; free.len()]);
    for _ in 0..n {
        // The first of those that are equal.
        let most = (0..free.len()).rev().max_by_key(|&at| free[at]).filter(|&at| free[at] > 0)?;
        free[most] -= 1;
        shares[most] += 1;
    }
    Some(shares)
}

/// Says why there is no room, and what to do.
fn told(hosts: &[Arc<Attached>], rooms: &[Result<usize, String>], n: usize) -> String {
    let told = hosts.iter().zip(rooms).filter_map(|(host, room)| {
        let name = host.name()?;
        Some(match room {
            Ok(free) => format!("host {name} has room for {free}"),
            Err(why) => format!("host {name}: {why}"),
        })
    });
    let mut told: Vec<_> = told.collect();
    told.sort_unstable();
    if told.is_empty() {
        return "no host is there; start `callboard host --allow-programs FILE` on the machines that are to run engines".into();
    }
    let engines = if n == 1 { "1 engine is".into() } else { format!("{n} engines are") };
    format!("{engines} wanted, and {}", told.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_go_where_most_is_free_and_nowhere_if_not_all_can() {
        assert_eq!(dealt(&[2, 4], 3), Some(vec![1, 2]));
        assert_eq!(dealt(&[2, 2, 0], 4), Some(vec![2, 2, 0]));
        assert_eq!(dealt(&[1, 1], 2), Some(vec![1, 1]));
        assert_eq!(dealt(&[3], 3), Some(vec![3]));
        assert_eq!(dealt(&[2, 1], 4), None);
        assert_eq!(dealt(&[], 1), None);
    }
}
