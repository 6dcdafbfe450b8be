//! The two items that the author's name stands for: the type of the task, and the function that builds one.

use proc_macro2::TokenStream;
use quote::quote;
use syn::Ident;
use syn::ext::IdentExt;

use super::no_lints;
use crate::task::Task;

/// Writes the type: braced, so that its name is free among the values, for the function.
pub(super) fn structure(task: &Task) -> TokenStream {
    let Task { attributes, visibility, signature, .. } = task;
    let (everywhere, own) = (&attributes.everywhere, &attributes.structure);
    let name = &signature.ident;
    let names = task.arguments.iter().map(|argument| &argument.name);
    let types = task.arguments.iter().map(|argument| &argument.ty);
    let doc = format!("The task that [`{}()`] builds.", name.unraw());
    let no_lints = no_lints();
    quote! {
        #(#everywhere)*
        #(#own)*
        #[doc = #doc]
        #no_lints
        #[allow(non_camel_case_types)]
        #[must_use = "a task does nothing until a view runs it, or `.call()`"]
        #visibility struct #name {
            #(#names: #types,)*
        }
    }
}

/// Writes the function that builds the task.
pub(super) fn constructor(task: &Task) -> TokenStream {
    let Task { attributes, visibility, signature, .. } = task;
    let (everywhere, own) = (&attributes.everywhere, &attributes.constructor);
    let name = &signature.ident;
    let names: Vec<&Ident> = task.arguments.iter().map(|argument| &argument.name).collect();
    let types = task.arguments.iter().map(|argument| &argument.ty);
    let no_lints = no_lints();
    quote! {
        #(#everywhere)*
        #(#own)*
        #no_lints
        #visibility fn #name(#(#names: #types),*) -> #name {
            #name { #(#names),* }
        }
    }
}

/// Writes a `Debug` that shows no argument: not every type has one, and it may be a secret.
pub(super) fn debug(task: &Task) -> TokenStream {
    let name = &task.signature.ident;
    let text = name.unraw().to_string();
    quote! {
        impl ::core::fmt::Debug for #name {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                f.debug_struct(#text).finish_non_exhaustive()
            }
        }
    }
}
