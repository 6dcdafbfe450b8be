//! The promises of executors, where tasks are those of a Dask cluster.

use std::sync::{Arc, OnceLock};

use callboard::DaskExecutor;

use super::Test;
use super::site::Site;
use crate::conformance::{self, Guard, Maker, Subject};

pub(super) const TESTS: &[Test] = &[("the_promises_of_executors_are_kept", the_promises_of_executors_are_kept)];

impl Guard for Arc<DaskExecutor> {
    fn catch_up(&self) {
        self.refresh().get().unwrap();
    }
}

fn the_promises_of_executors_are_kept() {
    // One cluster for all the executors; it ends with the process that holds it.
    static SITE: OnceLock<Site> = OnceLock::new();
    let make = || {
        let executor = Arc::new(SITE.get_or_init(|| Site::of(2)).connect());
        Subject { executor: Box::new(executor.clone()), guard: Box::new(executor) }
    };
    conformance::run(&Maker { name: "DaskExecutor", workers: 2, make });
}
