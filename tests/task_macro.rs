//! What `#[task]` makes of a function, seen from outside.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use callboard::prelude::*;
use callboard::task::{Payload, Typed, Value, WireCall, fingerprint};
use callboard::{Error, Registry};

#[task]
fn square(n: u32) -> u32 {
    n * n
}

#[task(name = "shared::cube", version = 3, idempotent)]
fn cube(n: u32) -> u32 {
    n * n * n
}

/// A task that returns nothing.
#[task]
fn nothing() {}

fn here() -> TaskContext {
    TaskContext::here()
}

/// Sends a task through bytes, as to an engine of another process, and returns what comes back.
fn over_the_wire<T: Task>(registry: &Registry, task: T) -> Result<T::Output, TaskFailure> {
    let Payload::Typed(arrived) = decoded(registry, &encoded(task)) else { panic!("decoding gives a typed call") };
    let Value::Typed(value) = arrived.run(&here())? else { panic!("a typed call gives a typed value") };
    let value: Box<Typed<T::Output>> = value.into_any().downcast().expect("the value has the task's output type");
    Ok(value.0)
}

fn encoded<T: Task>(task: T) -> WireCall {
    let Payload::Typed(task) = Payload::of(task) else { panic!("a payload is made from a typed call") };
    task.encode().expect("a task can leave the process").expect("its arguments can be encoded")
}

fn decoded(registry: &Registry, call: &WireCall) -> Payload {
    Payload::Typed(registry.decode(call).expect("the registry has the task").expect("its arguments can be decoded"))
}

mod naming {
    use super::*;

    pub(crate) mod linalg {
        use callboard::task;

        #[task]
        pub(crate) fn norm(values: Vec<f64>) -> f64 {
            values.iter().map(|v| v * v).sum::<f64>().sqrt()
        }

        #[task]
        pub(crate) fn r#match(n: u8) -> u8 {
            n
        }
    }

    #[test]
    fn a_task_is_called_by_crate_module_and_function() {
        assert_eq!(square::NAME, "task_macro::square");
        assert_eq!(linalg::norm::NAME, "task_macro::naming::linalg::norm");
        assert_eq!(linalg::norm::kind().short_name(), "norm");
    }

    #[test]
    fn a_raw_identifier_is_named_without_its_prefix() {
        assert_eq!(linalg::r#match::NAME, "task_macro::naming::linalg::match");
        assert_eq!(linalg::r#match(3).call(), 3);
    }

    #[test]
    fn the_author_may_pin_the_name_and_count_versions() {
        assert_eq!((cube::NAME, cube::VERSION), ("shared::cube", 3));
        assert_eq!((square::VERSION, nothing::VERSION), (1, 1));
    }

    #[test]
    fn only_what_is_marked_is_idempotent() {
        const { assert!(cube::IDEMPOTENT && !square::IDEMPOTENT) }
    }

    #[test]
    fn one_import_brings_the_function_and_the_type() {
        use linalg::norm;
        let task: norm = norm(vec![3.0, 4.0]);
        assert_eq!(task.call(), 5.0);
    }
}

mod signatures {
    use super::*;

    #[rustfmt::skip]
    #[task]
    fn spaced(_cx: &TaskContext, map: std::collections::BTreeMap< String,Vec<( f64 , [ u8;4 ])> >) -> io :: Result< usize > {
        Ok(map.len())
    }

    #[task(version = 2)]
    fn wider(n: u64) -> u32 {
        u32::try_from(n).unwrap_or(u32::MAX)
    }

    #[test]
    fn the_signature_has_the_types_as_written_but_for_spaces() {
        assert_eq!(square::SIGNATURE, "(u32) -> u32");
        assert_eq!(nothing::SIGNATURE, "() -> ()");
        assert_eq!(spaced::SIGNATURE, "(std::collections::BTreeMap<String, Vec<(f64, [u8; 4])>>) -> io::Result<usize>");
    }

    #[test]
    fn the_fingerprint_is_made_of_name_version_and_signature() {
        assert_eq!(cube::FINGERPRINT, fingerprint("shared::cube", 3, "(u32) -> u32"));
        assert_eq!(cube::kind().fingerprint, cube::FINGERPRINT);
    }

    #[test]
    fn the_fingerprint_differs_with_name_version_and_signature() {
        let of = |name, version, signature| fingerprint(name, version, signature);
        let ours = of(cube::NAME, cube::VERSION, cube::SIGNATURE);
        assert_ne!(ours, of(wider::NAME, cube::VERSION, cube::SIGNATURE));
        assert_ne!(ours, of(cube::NAME, wider::VERSION, cube::SIGNATURE));
        assert_ne!(ours, of(cube::NAME, cube::VERSION, wider::SIGNATURE));
    }
}

mod outputs {
    use super::*;

    #[task]
    fn by_alias(length: usize) -> io::Result<Vec<u8>> {
        if length > 8 { Err(io::Error::other("too long")) } else { Ok(vec![7; length]) }
    }

    #[task]
    fn by_text(fail: bool) -> Result<u8, String> {
        if fail { Err("as asked".into()) } else { Ok(1) }
    }

    #[task]
    fn by_literal(fail: bool) -> Result<u8, &'static str> {
        if fail { Err("as asked") } else { Ok(1) }
    }

    #[task]
    fn by_failure(text: String) -> Result<f64, TaskFailure> {
        if text.is_empty() {
            return Err(TaskFailure::new("no text"));
        }
        Ok(text.parse::<f64>()?)
    }

    #[task]
    fn by_box(text: String) -> Result<f64, Box<dyn StdError + Send + Sync>> {
        Ok(text.parse::<f64>()?)
    }

    #[task]
    fn an_option(n: u8) -> Option<Result<u8, String>> {
        n.checked_sub(1).map(Ok)
    }

    #[derive(Debug)]
    struct Outer(io::Error);

    impl fmt::Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("could not load")
        }
    }

    impl StdError for Outer {
        fn source(&self) -> Option<&(dyn StdError + 'static)> {
            Some(&self.0)
        }
    }

    #[task]
    fn with_a_cause() -> Result<(), Outer> {
        Err(Outer(io::Error::other("disk is gone")))
    }

    fn text_of<T: Task>(task: T) -> Option<String> {
        task.run(&here()).err().map(|failure| failure.text().to_owned())
    }

    /// Compiles only if the task has this output.
    fn has_output<O>(_: &impl Task<Output = O>) {}

    #[test]
    fn the_output_is_the_type_of_success_behind_any_spelling_of_result() {
        has_output::<u32>(&square(1));
        has_output::<()>(&nothing());
        has_output::<Vec<u8>>(&by_alias(1));
        has_output::<u8>(&by_text(false));
        has_output::<f64>(&by_box(String::new()));
        has_output::<()>(&with_a_cause());
        assert_eq!(by_alias(2).run(&here()), Ok(vec![7, 7]));
        assert_eq!(by_box("0.5".into()).run(&here()), Ok(0.5));
        assert_eq!(nothing().run(&here()), Ok(()));
    }

    #[test]
    fn a_result_inside_another_type_is_a_value_like_any_other() {
        has_output::<Option<Result<u8, String>>>(&an_option(1));
        assert_eq!(an_option(3).run(&here()), Ok(Some(Ok(2))));
    }

    #[test]
    fn every_kind_of_error_arrives_as_its_text() {
        assert_eq!(text_of(by_alias(9)).as_deref(), Some("too long"));
        assert_eq!(text_of(by_text(true)).as_deref(), Some("as asked"));
        assert_eq!(text_of(by_literal(true)).as_deref(), Some("as asked"));
        assert_eq!(text_of(by_box("x".into())).as_deref(), Some("invalid float literal"));
        assert_eq!(text_of(by_failure(String::new())).as_deref(), Some("no text"));
        assert_eq!(text_of(by_failure("x".into())).as_deref(), Some("invalid float literal"));
        assert_eq!(text_of(by_literal(false)), None);
    }

    #[test]
    fn an_error_brings_the_text_of_its_causes() {
        assert_eq!(text_of(with_a_cause()).as_deref(), Some("could not load: disk is gone"));
    }

    #[test]
    fn call_returns_what_the_function_returned() {
        let error: io::Error = by_alias(9).call().expect_err("nine is too long");
        assert_eq!(error.kind(), io::ErrorKind::Other);
        assert_eq!(by_text(false).call(), Ok(1));
        assert_eq!(square(5).call(), 25);
    }
}

mod parameters {
    use super::*;

    #[task]
    fn attempt(cx: &TaskContext) -> u32 {
        cx.attempt().0
    }

    #[task]
    fn label_or(cx: &callboard::TaskContext, otherwise: String) -> String {
        cx.label().map_or(otherwise, str::to_owned)
    }

    #[task]
    fn patterns(mut total: u32, _: u8, (a, b): (u32, u32), [c, ..]: [u32; 3], arg3: u32, _unused: String) -> u32 {
        total += a + b + c + arg3;
        total
    }

    #[task]
    fn shadowing(cx: u32, f: u32, this: u32) -> u32 {
        cx + f + this
    }

    macro_rules! task_over {
        ($name:ident, $argument:ty, $output:ty, $version:literal) => {
            #[task(version = $version)]
            fn $name(value: $argument) -> $output {
                Ok(value)
            }
        };
    }
    task_over!(made_by_a_macro, Vec<u8>, Result<Vec<u8>, String>, 5);

    #[test]
    fn a_context_is_handed_in_and_is_no_argument() {
        assert_eq!(attempt().run(&here()), Ok(1));
        assert_eq!(attempt().call(), 1);
        assert_eq!(label_or("none".into()).call(), "none");
        assert_eq!(label_or::SIGNATURE, "(String) -> String");
    }

    #[test]
    fn arguments_may_be_taken_apart_where_they_arrive() {
        let task = patterns(1, 9, (2, 3), [4, 0, 0], 5, String::new());
        assert_eq!(task.clone().call(), 15);
        assert_eq!(task.run(&here()), Ok(15));
        assert_eq!(patterns::SIGNATURE, "(u32, u8, (u32, u32), [u32; 3], u32, String) -> u32");
    }

    #[test]
    fn the_names_of_arguments_do_not_meet_those_of_the_expansion() {
        assert_eq!(shadowing(1, 2, 3).run(&here()), Ok(6));
    }

    #[test]
    fn a_task_may_be_written_by_a_macro() {
        assert_eq!(made_by_a_macro(vec![1]).run(&here()), Ok(vec![1]));
        assert_eq!(made_by_a_macro::VERSION, 5);
        assert_eq!(made_by_a_macro::SIGNATURE, "(Vec<u8>) -> Result<Vec<u8>, String>");
    }
}

mod attributes {
    use super::*;

    #[task]
    #[cfg(any())]
    fn left_out(n: NoSuchType) -> NoSuchType {
        no_such_function(n)
    }

    #[task]
    #[cfg_attr(all(), cfg(any()))]
    fn left_out_too(n: NoSuchType) -> NoSuchType {
        no_such_function(n)
    }

    /// The only one of its name.
    #[task]
    #[cfg(not(any()))]
    #[cfg_attr(any(), no_such_attribute)]
    #[cfg_attr(all(), inline, doc = "Documented.")]
    fn left_in() -> u8 {
        1
    }

    #[deprecated = "use `square`"]
    #[task]
    fn old(n: u32) -> u32 {
        n * n
    }

    #[task]
    #[track_caller]
    #[expect(non_snake_case, unused_variables, reason = "the lints apply to what the macro writes too")]
    fn Loud(N: u32, unused: u32) -> u32 {
        N
    }

    #[test]
    fn a_task_that_is_configured_out_leaves_nothing() {
        let names: Vec<&str> =
            Registry::auto().expect("names are unique").kinds().iter().map(|kind| kind.name).collect();
        assert!(names.contains(&"task_macro::attributes::left_in"));
        assert!(!names.iter().any(|name| name.contains("left_out")));
    }

    #[test]
    fn other_attributes_of_the_function_are_kept() {
        #[expect(deprecated)]
        let task = old(3);
        assert_eq!(task.call(), 9);
        assert_eq!(left_in().call(), 1);
        assert_eq!(Loud(1, 2).call(), 1);
    }
}

mod bodies {
    use super::*;

    #[task]
    fn early(n: u32) -> Result<u32, std::num::TryFromIntError> {
        if n == 0 {
            return Ok(0);
        }
        let narrow = u8::try_from(n)?;
        Ok(narrow.into())
    }

    /// The recursion is a plain function; the task calls it.
    #[task]
    fn fibonacci(n: u32) -> u64 {
        fn fibonacci(n: u32) -> u64 {
            if n < 2 { n.into() } else { fibonacci(n - 1) + fibonacci(n - 2) }
        }
        fibonacci(n)
    }

    #[task]
    fn shadowed(n: u32) -> u32 {
        let shadowed = |n: u32| n + 1;
        shadowed(n)
    }

    #[task]
    fn countdown(n: u32) -> u32 {
        if n == 0 { 0 } else { 1 + countdown(n - 1).call() }
    }

    #[task]
    fn depth_of_a_tree(children: Vec<u32>) -> usize {
        let built: Vec<depth_of_a_tree> = children.into_iter().map(|child| depth_of_a_tree(vec![child; 0])).collect();
        built.len()
    }

    // Names that the traits and the expansion use too.
    #[task]
    fn call(n: u8) -> u8 {
        n + 1
    }
    #[task]
    fn run(n: u8) -> u8 {
        n + 2
    }
    #[task]
    fn clone(n: u8) -> u8 {
        n + 3
    }
    #[task]
    fn new(n: u8) -> u8 {
        n + 4
    }

    #[test]
    fn return_and_question_mark_leave_the_function() {
        assert_eq!(early(0).run(&here()), Ok(0));
        assert_eq!(early(7).run(&here()), Ok(7));
        let failure = early(256).run(&here()).expect_err("256 is no u8");
        assert_eq!(failure.text(), "out of range integral type conversion attempted");
    }

    #[test]
    fn what_takes_the_name_inside_the_task_is_meant_there() {
        assert_eq!(fibonacci(20).call(), 6765);
        assert_eq!(shadowed(1).call(), 2);
    }

    #[test]
    fn a_task_may_build_and_call_itself() {
        assert_eq!(countdown(4).call(), 4);
        assert_eq!(depth_of_a_tree(vec![1, 2]).call(), 2);
    }

    #[test]
    fn a_task_may_be_called_as_a_method_of_its_own_is() {
        assert_eq!((call(1).call(), call(1).run(&here())), (2, Ok(2)));
        assert_eq!((run(1).call(), Task::run(run(1), &here())), (3, Ok(3)));
        assert_eq!((Clone::clone(&clone(1)).call(), clone(1).run(&here())), (4, Ok(4)));
        assert_eq!(new(1).call(), 5);
    }

    #[test]
    fn a_task_may_be_written_inside_a_function() {
        const FACTOR: u64 = 3;
        #[task]
        fn inner(n: u64) -> u64 {
            n * FACTOR
        }
        assert_eq!(inner(5).call(), 15);
        assert_eq!(inner::NAME, "task_macro::bodies::inner");
        let registry = Registry::auto().expect("names are unique");
        assert_eq!(over_the_wire(&registry, inner(5)), Ok(15));
    }
}

mod in_async {
    use super::*;
    use std::time::Duration;

    #[task]
    async fn doubled(n: u32) -> u32 {
        tokio::time::sleep(Duration::from_millis(1)).await;
        n * 2
    }

    #[task]
    async fn fallible(cx: &TaskContext, fail: bool) -> io::Result<u32> {
        tokio::task::yield_now().await;
        if fail { Err(io::Error::other("as asked")) } else { Ok(cx.attempt().0) }
    }

    #[test]
    fn an_async_task_runs_to_its_end_on_this_thread() {
        assert_eq!(doubled(4).run(&here()), Ok(8));
        assert_eq!(fallible(false).run(&here()), Ok(1));
        let failure = fallible(true).run(&here()).expect_err("it was asked to fail");
        assert_eq!(failure.text(), "as asked");
    }

    #[tokio::test]
    async fn call_of_an_async_task_is_a_future() {
        assert_eq!(doubled(4).call().await, 8);
        // A future that may move to another thread.
        let joined = tokio::spawn(fallible(false).call()).await.expect("the task does not panic");
        assert_eq!(joined.ok(), Some(1));
    }
}

mod sizes {
    use super::*;

    #[task]
    fn holds(text: String, numbers: Vec<u64>, other: Option<Vec<u8>>) -> usize {
        text.len() + numbers.len() + other.map_or(0, |bytes| bytes.len())
    }

    #[test]
    fn the_size_of_a_call_counts_the_bytes_of_texts_and_vectors() {
        let task = holds("12345".into(), vec![0; 100], Some(vec![0; 1000]));
        let own = size_of::<holds>();
        // What is behind an `Option` is not known.
        assert_eq!(task.size_hint(), own + 5 + 800);
        assert_eq!(square(1).size_hint(), size_of::<u32>());
        assert_eq!(nothing().size_hint(), 0);
    }

    #[test]
    fn a_task_is_as_large_as_its_arguments() {
        assert_eq!(size_of::<square>(), 4);
        assert_eq!(size_of::<nothing>(), 0);
    }

    #[test]
    fn debug_shows_the_name_and_no_argument() {
        assert_eq!(format!("{:?}", holds("secret".into(), vec![], None)), "holds { .. }");
    }
}

mod registering {
    use super::*;

    #[test]
    fn a_registry_has_the_tasks_it_was_given() {
        let registry = Registry::new().with::<square>().and_then(Registry::with::<cube>).expect("names are unique");
        let names: Vec<&str> = registry.kinds().iter().map(|kind| kind.name).collect();
        assert_eq!(names, ["shared::cube", "task_macro::square"]);
        assert_eq!(registry.kind(square::kind().key), Some(square::kind()));
    }

    #[test]
    fn two_tasks_of_one_name_are_refused_with_both_places() {
        #[derive(Clone, serde::Serialize, serde::Deserialize)]
        struct Rival;
        impl Task for Rival {
            type Output = ();
            const NAME: &'static str = square::NAME;
            fn run(self, _: &TaskContext) -> Result<(), TaskFailure> {
                Ok(())
            }
        }
        let (registry, first_line) = (Registry::new().with::<square>().expect("it is the only one"), line!());
        let (added, second_line) = (registry.with::<Rival>(), line!());
        let Err(Error::DuplicateTask { name, version, first, second }) = added else { panic!("{added:?}") };
        assert_eq!((name, version), ("task_macro::square", 1));
        assert_eq!(first, format!("{}:{first_line}", file!()));
        assert_eq!(second, format!("{}:{second_line}", file!()));
    }

    #[test]
    fn every_task_of_the_program_registers_itself() {
        let registry = Registry::auto().expect("names are unique");
        assert_eq!(registry.kind(square::kind().key), Some(square::kind()));
        assert_eq!(registry.kind(nothing::kind().key), Some(nothing::kind()));
    }

    #[test]
    fn a_task_written_by_hand_is_registered_by_one_line() {
        #[derive(Clone, serde::Serialize, serde::Deserialize)]
        struct Halve(f64);
        impl Task for Halve {
            type Output = f64;
            const NAME: &'static str = "by_hand::Halve";
            fn run(self, _: &TaskContext) -> Result<f64, TaskFailure> {
                Ok(self.0 / 2.0)
            }
        }
        callboard::register_task!(Halve);
        let registry = Registry::auto().expect("names are unique");
        assert_eq!(over_the_wire(&registry, Halve(3.0)), Ok(1.5));
    }
}

mod travelling {
    use super::*;

    #[task]
    fn joined(words: Vec<String>, (before, after): (char, Option<char>)) -> String {
        let mut text = String::from(before);
        text.push_str(&words.join(" "));
        text.extend(after);
        text
    }

    fn registry() -> Registry {
        Registry::new().with::<joined>().and_then(Registry::with::<square>).expect("names are unique")
    }

    fn example() -> joined {
        joined(vec!["a".into(), "b".into()], ('<', Some('>')))
    }

    #[test]
    fn a_call_comes_out_of_its_bytes_as_it_went_in() {
        assert_eq!(over_the_wire(&registry(), example()), Ok("<a b>".into()));
        assert_eq!(over_the_wire(&registry(), square(12)), Ok(144));
    }

    #[test]
    fn only_the_arguments_travel() {
        let call = encoded(square(5));
        assert_eq!((call.key, &call.inline[..]), (square::kind().key, &[5][..]));
    }

    #[test]
    fn bytes_behind_the_arguments_are_refused() {
        let mut call = encoded(square(5));
        call.inline = [&call.inline[..], &[0]].concat().into();
        assert!(registry().decode(&call).is_some_and(|decoded| decoded.is_err()));
    }

    #[test]
    fn missing_bytes_are_refused() {
        let mut call = encoded(example());
        call.inline.truncate(call.inline.len() - 1);
        assert!(registry().decode(&call).is_some_and(|decoded| decoded.is_err()));
    }

    #[test]
    fn an_unknown_key_finds_nothing() {
        let call = WireCall { key: !square::kind().key, ..encoded(square(5)) };
        assert!(registry().decode(&call).is_none());
        assert_eq!(registry().kind(call.key), None);
    }

    #[test]
    fn a_copy_is_a_call_of_its_own() {
        let payload = Payload::of(example());
        let copy = payload.try_clone().expect("a task can be cloned");
        drop(payload);
        let Payload::Typed(copy) = copy else { panic!("a typed call is copied as one") };
        assert_eq!(copy.kind(), joined::kind());
        assert!(copy.run(&here()).is_ok());
    }
}
