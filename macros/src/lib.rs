//! The `#[task]` attribute of callboard: from a plain function to a task that an engine can run.
//!
//! A function goes through these files from top to bottom. `options` and `function` read what was written,
//! `check`, `travel` and `recursion` look for what cannot work and say what to write instead, `task` is what is
//! left to know, and `expand` writes the items. Programs use the attribute as `callboard::task`.

mod options;
mod function;
mod check;
mod travel;
mod recursion;
mod problems;
mod attributes;
mod written;
mod task;
mod expand;

use proc_macro2::TokenStream;
use quote::quote;

use self::function::Function;
use self::options::Options;
use self::task::Task;

/// Turns a function into a task: calling it builds a value that a view runs on an engine.
///
/// ```
/// use callboard::prelude::*;
///
/// /// Sum of the squares below `n`.
/// #[task]
/// fn squares(n: u64) -> u64 {
///     (0..n).map(|i| i * i).sum()
/// }
///
/// /// Reads one number; any error type will do.
/// #[task(name = "numbers::parse", version = 2, idempotent)]
/// fn parse(text: String) -> Result<f64, std::num::ParseFloatError> {
///     text.trim().parse()
/// }
///
/// /// Counts, unless somebody cancels it.
/// #[task]
/// fn count(cx: &TaskContext, limit: u32) -> u32 {
///     (0..limit).take_while(|_| !cx.is_cancelled()).count() as u32
/// }
///
/// // As calling an `async fn` builds a future, calling a task builds a task. A view runs it on an engine
/// // (`view.apply(squares(4))`); `call` runs it here, now.
/// let task: squares = squares(4);
/// assert_eq!(task.call(), 14);
///
/// assert_eq!((parse::NAME, parse::VERSION, parse::IDEMPOTENT), ("numbers::parse", 2, true));
/// assert_eq!(parse(" 2.5".into()).call(), Ok(2.5));
/// assert!(parse("two".into()).run(&TaskContext::here()).is_err());
/// assert_eq!(count(3).run(&TaskContext::here()), Ok(3));
/// ```
///
/// # Options
///
/// | option           | default                   | meaning                                                        |
/// |------------------|---------------------------|----------------------------------------------------------------|
/// | `name = "a::b"`  | `crate::module::function` | what the task is called on the wire and in records             |
/// | `version = 2`    | `1`                       | raise it when the same arguments come to mean something else   |
/// | `idempotent`     | off                       | running it twice is as good as once: it may start again when its engine is lost |
///
/// Two tasks of one program need different names or versions. A task that is written inside a function is named
/// by the module around the function, so two such tasks that are called alike need a `name`.
///
/// # The function
///
/// - Arguments are owned and `Clone + Serialize + Deserialize + Send`; so is the result, but for `Clone`.
///   Neither borrows, and the function has no generic parameters.
/// - A first parameter `cx: &TaskContext` is handed in by the engine and is not an argument of the task.
/// - A return type whose last segment is `Result` may fail. The task's output is the type of success, and an
///   error arrives at the caller as text, with its causes.
/// - An `async fn` runs to its end on one slot of an engine; cancelling drops it at its next await.
/// - The task's own name builds a task inside the function too. What recurses is a plain function that the
///   task calls.
///
/// # What it expands to
///
/// A function `f` becomes a struct `f`, whose private fields are the arguments, and a function `f` that makes
/// one. They can share the name because one is a type and the other a value, so one `use` imports both; another
/// type or module of that name cannot be beside them. The struct implements `Task`, `Clone`, `Serialize`,
/// `Deserialize` and `Debug` (which shows no argument), has the method `call`, and is registered so that engines
/// of other processes find it. In documentation the function is linked as ``[`f()`]``.
///
/// `#[cfg]` and the lints that are allowed apply to all of it; `#[doc]` and `#[deprecated]` to the function
/// that builds the task; `#[must_use]` to `call`; every other attribute to the code that runs.
///
/// What cannot be a task does not compile, and the message says what to write instead. The paths in the
/// expansion begin with `::callboard`, so the dependency has to go by that name.
#[proc_macro_attribute]
pub fn task(options: proc_macro::TokenStream, item: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let item = TokenStream::from(item);
    expand_or_explain(options.into(), item.clone())
        .unwrap_or_else(|error| {
            let error = error.into_compile_error();
            // The item stays as it was written, so that what uses it does not fail with a second error.
            quote!(#error #item)
        })
        .into()
}

/// Writes the items of a task. What is wrong but leaves a task to write is reported beside them.
///
/// # Errors
/// What is wrong, if there is no task to write.
fn expand_or_explain(options: TokenStream, item: TokenStream) -> syn::Result<TokenStream> {
    let mut function: Function = syn::parse2(item)?;
    check::signature(&function.signature)?;
    let (options, wrong_options) = Options::read(options);
    let recursion = recursion::mend(&mut function);
    let errors = [wrong_options, recursion].into_iter().filter_map(Result::err).map(syn::Error::into_compile_error);
    let items = expand::items(&Task::new(options, function));
    Ok(quote!(#(#errors)* #items))
}
