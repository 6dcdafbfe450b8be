//! What a cluster leaves behind: nothing. One test, because it counts what the whole process has.
#![allow(clippy::unwrap_used)]

use callboard::prelude::*;

mod support;
use support::{descriptors, resident, threads};

#[task]
fn id(x: u32) -> u32 {
    x
}

fn once(i: u32) {
    let cluster = Cluster::threads(2).start().unwrap();
    let rc = cluster.client();
    let ar = rc.load_balanced().apply(id(i));
    match i % 4 {
        0 => assert_eq!(ar.get(), Ok(i)),
        1 => ar.add_done_callback(|_| {}).unwrap(),
        // Dropped while it may be anywhere.
        2 => drop(ar),
        _ => drop(rc.all().apply(id(i))),
    }
    if i.is_multiple_of(3) {
        cluster.shutdown(if i.is_multiple_of(2) { Pending::Finish } else { Pending::Cancel }).get().unwrap();
    }
}

#[test]
fn a_thousand_clusters_leave_no_thread_descriptor_or_memory() {
    // A joined thread is in /proc for another moment.
    let no_thread_is_left = || support::eventually("no thread is left", || support::our_threads().is_empty());
    (0..50).for_each(once);
    no_thread_is_left();
    let (threads_before, descriptors_before, resident_before) = (threads(), descriptors(), resident());
    for i in 0..1_000 {
        once(i);
        no_thread_is_left();
    }
    assert_eq!((threads(), descriptors()), (threads_before, descriptors_before));
    let grown = resident().saturating_sub(resident_before);
    assert!(grown < 4 << 20, "{grown} bytes more after 1 000 clusters");

    // What is still held of clusters that ended is memory, and nothing of the operating system's.
    let held: Vec<_> = (0..50)
        .map(|i| {
            let cluster = Cluster::threads(1).start().unwrap();
            let ar = cluster.client().load_balanced().apply(id(i));
            (ar, cluster.client(), cluster.addresses().clone())
        })
        .collect();
    no_thread_is_left();
    assert_eq!((threads(), descriptors()), (threads_before, descriptors_before), "{} results are held", held.len());
    drop(held);

    // Within a runtime nothing waits; the end comes in the background.
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        for i in 0..50 {
            let cluster = Cluster::threads(2).start().unwrap();
            let ar = cluster.client().load_balanced().apply(id(i));
            drop(cluster);
            assert!(matches!(ar.await, Ok(_) | Err(TaskError::Cancelled { .. })));
        }
    });
    drop(runtime);
    no_thread_is_left();
    // The runtime's own threads end at their leisure.
    support::eventually("as many threads as before", || threads() == threads_before);
    assert_eq!((threads(), descriptors()), (threads_before, descriptors_before));
}
