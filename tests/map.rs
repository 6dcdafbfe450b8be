//! `map`: values in their places, whatever becomes of the others.
#![allow(clippy::unwrap_used)]

use callboard::prelude::*;

#[task]
fn square(x: u64) -> u64 {
    x * x
}

#[test]
fn a_map_gives_the_values_in_the_order_of_the_items() {
    let cluster = Cluster::threads(4).start().unwrap();
    let rc = cluster.client();
    for n in [0, 1, 2, 3, 7, 1_000, 100_000] {
        let expected: Vec<u64> = (0..n).map(|x| x * x).collect();
        let ar = rc.load_balanced().map(square, 0..n);
        assert_eq!(ar.get().unwrap(), expected, "{n} items");
        assert_eq!(rc.all().map(square, 0..n).get().unwrap(), expected, "{n} items");
    }
}
