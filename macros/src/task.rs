//! What is left of a function when it is a task: the code that runs, and the arguments that travel.

use proc_macro2::{Group, TokenStream};
use quote::{format_ident, quote};
use syn::{FnArg, Ident, Pat, PatType, ReturnType, Signature, Type, Visibility};

use crate::attributes::Attributes;
use crate::function::Function;
use crate::options::Options;
use crate::written::written;

/// One task, checked and ready to be written.
pub(crate) struct Task {
    pub(crate) options: Options,
    pub(crate) attributes: Attributes,
    pub(crate) visibility: Visibility,
    /// The function as the author wrote it.
    pub(crate) signature: Signature,
    pub(crate) body: Group,
    pub(crate) takes_context: bool,
    pub(crate) arguments: Vec<Argument>,
}

/// An argument of the task: a field of the struct, and a parameter of the function that builds it.
pub(crate) struct Argument {
    pub(crate) name: Ident,
    pub(crate) ty: Type,
}

impl Task {
    /// Takes a function apart that passed the checks.
    pub(crate) fn new(options: Options, function: Function) -> Self {
        let Function { attributes, visibility, signature, body } = function;
        let mut parameters: Vec<&PatType> = signature.inputs.iter().filter_map(typed).collect();
        let takes_context =
            parameters.first().is_some_and(|first| matches!(without_groups(&first.ty), Type::Reference(_)));
        if takes_context {
            // Every other reference was refused.
            parameters.remove(0);
        }
        let arguments = arguments(&parameters);
        let attributes = Attributes::sort(attributes);
        Self { options, attributes, visibility, signature, body, takes_context, arguments }
    }

    /// Returns the return type, `()` where none is written.
    pub(crate) fn output(&self) -> TokenStream {
        match &self.signature.output {
            ReturnType::Default => quote!(()),
            ReturnType::Type(_, ty) => quote!(#ty),
        }
    }

    /// Returns whether the function can return an error: `io::Result<()>` is a `Result` too.
    pub(crate) fn may_fail(&self) -> bool {
        matches!(&self.signature.output, ReturnType::Type(_, ty) if is_last_segment(ty, "Result"))
    }

    /// Returns the types of the arguments and of the result, as written: `(usize, Vec<f64>) -> f64`.
    pub(crate) fn types_as_written(&self) -> String {
        let arguments: Vec<String> = self.arguments.iter().map(|argument| written(&argument.ty)).collect();
        format!("({}) -> {}", arguments.join(", "), written(self.output()))
    }
}

fn typed(parameter: &FnArg) -> Option<&PatType> {
    match parameter {
        FnArg::Typed(parameter) => Some(parameter),
        FnArg::Receiver(_) => None,
    }
}

fn arguments(parameters: &[&PatType]) -> Vec<Argument> {
    let names: Vec<Option<&Ident>> = parameters.iter().map(|parameter| name_in(&parameter.pat)).collect();
    let name_of = |position: usize| match names[position] {
        Some(name) => name.clone(),
        None => free_name(position, &names),
    };
    let numbered = parameters.iter().enumerate();
    numbered.map(|(position, parameter)| Argument { name: name_of(position), ty: (*parameter.ty).clone() }).collect()
}

fn name_in(pattern: &Pat) -> Option<&Ident> {
    match pattern {
        Pat::Ident(pattern) => Some(&pattern.ident),
        _ => None,
    }
}

/// Makes a name for an argument that is taken apart at once: `arg0`, unless another is called so.
fn free_name(position: usize, names: &[Option<&Ident>]) -> Ident {
    let mut name = format_ident!("arg{position}");
    while names.contains(&Some(&name)) {
        name = format_ident!("{name}_");
    }
    name
}

/// Returns whether a type is written as this name, with or without a path and arguments.
pub(crate) fn is_last_segment(ty: &Type, name: &str) -> bool {
    match without_groups(ty) {
        Type::Path(path) => path.path.segments.last().is_some_and(|segment| segment.ident == name),
        _ => false,
    }
}

/// Takes off parentheses, and the invisible groups around what a `macro_rules` macro was given.
pub(crate) fn without_groups(ty: &Type) -> &Type {
    match ty {
        Type::Group(group) => without_groups(&group.elem),
        Type::Paren(parenthesised) => without_groups(&parenthesised.elem),
        other => other,
    }
}
