//! Values on engines: pushed, pulled, scattered, gathered.
#![allow(clippy::unwrap_used)]

use callboard::prelude::*;
use callboard::{Error, Pulled};

mod support;
use support::Cluster;

fn cluster(n: usize) -> (Cluster, Client) {
    let cluster = support::engines(n).start().unwrap();
    let client = cluster.client();
    (cluster, client)
}

fn values<T: Clone>(pulled: Vec<Pulled<T>>) -> Vec<T> {
    pulled.into_iter().map(Pulled::into_inner).collect()
}

/// What this program is where engines are processes.
#[test]
fn engine() {
    support::engine();
}

#[test]
fn what_is_pushed_is_pulled_from_every_engine_and_from_one() {
    let (_cluster, rc) = cluster(3);
    rc.all().push("a", (1, "text".to_string())).get().unwrap();
    let pulled = rc.all().pull::<(i32, String)>("a").get().unwrap();
    assert_eq!(values(pulled), vec![(1, "text".to_string()); 3]);
    rc.engine(1).unwrap().push("a", 5_u8).get().unwrap();
    assert_eq!(*rc.engine(1).unwrap().pull::<u8>("a").get().unwrap(), 5);
    // The others still have the first, which is of another type.
    let Err(Error::Composite(error)) = rc.all().pull::<u8>("a").get() else { panic!("two have another type") };
    assert_eq!(error.errors.iter().map(|(position, _)| *position).collect::<Vec<_>>(), [0, 2]);
    let told = "\"a\": it is a (i32, alloc::string::String), and not a u8";
    assert!(error.errors.iter().all(|(_, error)| matches!(error, TaskError::Failed { text, .. } if &**text == told)));
}

#[test]
fn scatter_and_gather_are_opposites_for_every_length() {
    let (_cluster, rc) = cluster(4);
    let dv = rc.all();
    for n in [0_u32, 1, 3, 4, 5, 101] {
        let items: Vec<u32> = (0..n).collect();
        dv.scatter("x", items.clone()).get().unwrap();
        let parts = values(dv.pull::<Vec<u32>>("x").get().unwrap());
        let lengths: Vec<usize> = parts.iter().map(Vec::len).collect();
        assert!(lengths.is_sorted_by(|a, b| a >= b) && lengths[0] - lengths[3] <= 1, "{lengths:?}");
        assert_eq!(dv.gather::<u32>("x").get().unwrap(), items);
    }
}

#[test]
fn a_missing_name_is_an_error_that_says_so() {
    let (_cluster, rc) = cluster(2);
    let error = rc.engine(0).unwrap().pull::<u8>("nobody").get().unwrap_err();
    assert!(matches!(error, TaskError::Failed { .. }));
    assert!(error.to_string().contains("nothing is called \"nobody\" on this engine; push it first"), "{error}");
    assert!(matches!(rc.all().gather::<u8>("nobody").get(), Err(Error::Composite(_))));
    rc.all().push("somebody", 1).get().unwrap();
    rc.all().clear().get().unwrap();
    assert!(rc.engine(0).unwrap().pull::<i32>("somebody").get().is_err());
}

#[test]
fn a_view_of_no_engines_refuses() {
    let (_cluster, rc) = cluster(1);
    let none = rc.load_balanced_view([]);
    drop(none);
    assert!(rc.all().scatter("x", Vec::<u8>::new()).get().is_ok());
}
