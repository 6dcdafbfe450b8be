//! What the signature of a task cannot be, and what to write instead.
//!
//! Arguments travel to an engine and the result travels back, perhaps to another process: neither can borrow,
//! and both have one type that both sides know.

use syn::{FnArg, GenericArgument, GenericParam, PatType, PathArguments, Result, ReturnType, Safety, Signature, Type};

use crate::problems::Problems;
use crate::task::{is_last_segment, without_groups};
use crate::travel::{Direction, check_travels};
use crate::written::written;

/// Checks the signature of a task.
///
/// # Errors
/// Everything that is wrong with it.
pub(crate) fn signature(signature: &Signature) -> Result<()> {
    let mut problems = Problems::default();
    if let Some(receiver) = signature.receiver() {
        // In an `impl` everything else would be wrong too, so this is the only thing to say.
        problems.note(
            receiver,
            "a task is a free function: move it out of the `impl`, and take the value as an argument, as in `this: MyType`",
        );
        return problems.into_result();
    }
    check_qualifiers(signature, &mut problems);
    for (position, parameter) in signature.inputs.iter().enumerate() {
        if let FnArg::Typed(parameter) = parameter {
            check_parameter(parameter, position, &mut problems);
        }
    }
    if let ReturnType::Type(_, output) = &signature.output {
        check_output(output, &mut problems);
    }
    check_generics(signature, &mut problems);
    problems.into_result()
}

fn check_qualifiers(signature: &Signature, problems: &mut Problems) {
    if let Some(token) = &signature.constness {
        problems.note(token, "a task runs on an engine, never in a constant: remove `const`");
    }
    if let Safety::Unsafe(token) = &signature.safety {
        problems.note(
            token,
            "an engine cannot keep the promises of an `unsafe fn`: remove `unsafe`, and write an `unsafe` block where \
             the task itself can keep them",
        );
    }
    if let Some(abi) = &signature.abi {
        problems
            .note(abi, "an engine calls a Rust function: remove `extern`, and call the foreign function from the task");
    }
}

fn check_generics(signature: &Signature, problems: &mut Problems) {
    let generics = &signature.generics;
    if generics.params.iter().any(|parameter| !matches!(parameter, GenericParam::Lifetime(_))) {
        problems.note(
            generics,
            "a task is one function with one name, by which an engine finds it: write concrete types, in one task for \
             each, and let the tasks call a generic function",
        );
        return;
    }
    // What borrows was reported where it stands; without it the lifetimes have no use.
    if !generics.params.is_empty() && problems.is_empty() {
        problems.note(generics, "a task borrows nothing: remove the lifetimes");
    }
    if let Some(clause) = &generics.where_clause {
        problems.note(clause, "a task has concrete types, of which nothing is to be required: remove the `where`");
    }
}

fn check_parameter(parameter: &PatType, position: usize, problems: &mut Problems) {
    for attribute in &parameter.attrs {
        if attribute.path().is_ident("cfg") || attribute.path().is_ident("cfg_attr") {
            problems.note(
                attribute,
                "the arguments of a task are the same in every program that knows it: write two functions, each with \
                 its own `#[cfg]`",
            );
        }
    }
    match Context::of(&parameter.ty) {
        Some(context) => check_context(&context, parameter, position, problems),
        None => check_travels(&parameter.ty, Direction::There, problems),
    }
}

/// The ways to write a parameter that is meant to be the context.
enum Context {
    Shared,
    Otherwise,
}

impl Context {
    fn of(ty: &Type) -> Option<Self> {
        match without_groups(ty) {
            Type::Path(_) => is_last_segment(ty, "TaskContext").then_some(Self::Otherwise),
            Type::Reference(reference) => {
                let is_plain = reference.mutability.is_none() && reference.lifetime.is_none();
                Self::of(&reference.elem).map(|_| if is_plain { Self::Shared } else { Self::Otherwise })
            }
            _ => None,
        }
    }
}

fn check_context(context: &Context, parameter: &PatType, position: usize, problems: &mut Problems) {
    match context {
        Context::Otherwise => problems.note(&parameter.ty, "the engine lends its context to the task: write `&TaskContext`"),
        Context::Shared if position > 0 => problems.note(
            parameter,
            "`&TaskContext` must be the first parameter, and the only one: the engine hands it in, it is not an argument",
        ),
        Context::Shared => {}
    }
}

fn check_output(output: &Type, problems: &mut Problems) {
    if !is_last_segment(output, "Result") {
        check_travels(output, Direction::Back, problems);
        return;
    }
    // Only the value of a `Result` travels as what it is. The error travels as text, so `&'static str` will do.
    let mut arguments = type_arguments(output).into_iter();
    if let Some(value) = arguments.next() {
        check_travels(value, Direction::Back, problems);
    }
    if let Some(error) = arguments.next() {
        check_travels(error, Direction::AsText, problems);
        check_boxed_error(error, problems);
    }
}

/// Looks for `Box<dyn Error>`, from which there is no way to the error that becomes the text.
fn check_boxed_error(error: &Type, problems: &mut Problems) {
    let [Type::TraitObject(object)] = type_arguments(error)[..] else { return };
    let bounds: Vec<String> = object.bounds.iter().map(written).collect();
    let has = |name: &str| bounds.iter().any(|bound| bound.rsplit("::").next() == Some(name));
    if is_last_segment(error, "Box") && has("Error") && !(has("Send") && has("Sync")) {
        problems.note(
            error,
            format!(
                "the error of a task becomes text by way of `Box<dyn Error + Send + Sync>`: write that instead of `{}`",
                written(error)
            ),
        );
    }
}

/// Returns `T` and `E` of `Result<T, E>`.
fn type_arguments(ty: &Type) -> Vec<&Type> {
    let Type::Path(path) = without_groups(ty) else { return Vec::new() };
    let Some(PathArguments::AngleBracketed(list)) = path.path.segments.last().map(|segment| &segment.arguments) else {
        return Vec::new();
    };
    let arguments = list.args.iter();
    arguments.filter_map(|argument| if let GenericArgument::Type(ty) = argument { Some(ty) } else { None }).collect()
}
