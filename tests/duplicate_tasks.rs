//! Two tasks of one name, in a program of their own: the cluster does not start, and says where both are.

use callboard::prelude::*;
use callboard::{Error, Registry};

mod first {
    use callboard::prelude::*;

    #[task(name = "twin")]
    pub(crate) fn one() {}
}

mod second {
    use callboard::prelude::*;

    #[task(name = "twin")]
    pub(crate) fn two(x: u8) -> u8 {
        x
    }
}

#[test]
fn two_tasks_of_one_name_are_found_at_start_with_both_places() {
    assert_eq!(<first::one as Task>::NAME, <second::two as Task>::NAME);
    let Err(error) = Cluster::threads(1).start() else { panic!("it started") };
    let Error::DuplicateTask { name: "twin", version: 1, first, second } = &error else { panic!("{error:?}") };
    let mut places = [first, second];
    places.sort();
    assert!(places[0].starts_with("tests/duplicate_tasks.rs:") && places[1].starts_with("tests/duplicate_tasks.rs:"));
    assert_ne!(places[0], places[1]);
    assert!(error.to_string().ends_with("give one of them #[task(name = \"..\")]"), "{error}");

    // Whoever lists the tasks himself is not stopped by what else is linked.
    let registry = Registry::new().with::<second::two>().expect("one of a name");
    let cluster = Cluster::threads(1).registry(registry).start().expect("it starts");
    assert_eq!(cluster.client().load_balanced().apply(second::two(4)).get(), Ok(4));
}
