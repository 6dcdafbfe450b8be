//! Writes the items of a task.
//!
//! Every path is absolute, and nothing gets a name that the author's code could meet, but for the struct and
//! the function that they asked for. What the compiler may complain about is written with the spans of the
//! author's types, so that the complaint is shown there and not at the attribute.

mod structure;
mod body;
mod coding;
mod implementation;

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote};

use crate::task::Task;

/// Writes all items of a task.
pub(crate) fn items(task: &Task) -> TokenStream {
    let structure = structure::structure(task);
    let constructor = structure::constructor(task);
    let debug = structure::debug(task);
    let body = body::inherent(task);
    let coding = coding::clone_and_serde(task);
    let implementation = implementation::task(task);
    let everywhere = &task.attributes.everywhere;
    let name = &task.signature.ident;
    quote! {
        #structure
        #constructor
        #(#everywhere)*
        const _: () = {
            #debug
            #body
            #coding
            #implementation
            ::callboard::register_task!(#name);
        };
    }
}

/// What is written beside the author's code is not for lints to judge. And a task is used even where this
/// program never builds it, because others do.
fn no_lints() -> TokenStream {
    quote!(#[allow(dead_code, clippy::all, clippy::pedantic, clippy::nursery, clippy::restriction)])
}

/// Returns the places of the first and of the last token: what is written from one to the other is shown as if
/// it stood where these tokens stand.
fn ends(tokens: impl ToTokens) -> (Span, Span) {
    let mut spans = tokens.into_token_stream().into_iter().map(|token| token.span());
    let first = spans.next().unwrap_or_else(Span::call_site);
    (first, spans.last().unwrap_or(first))
}
