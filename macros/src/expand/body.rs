//! The author's code, and the method that runs it here.

use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::Ident;

use super::no_lints;
use crate::task::Task;

/// Writes `call`, and the author's function as an associated function: its signature and its attributes stay,
/// so `return`, `?` and errors of the compiler are where they were.
pub(super) fn inherent(task: &Task) -> TokenStream {
    let Task { attributes, visibility, signature, body, .. } = task;
    let name = &signature.ident;
    let (of_call, of_body) = (&attributes.call, &attributes.body);
    let mut signature_of_body = signature.clone();
    signature_of_body.ident = name_of_body(task);
    let (asyncness, output) = (&signature.asyncness, &signature.output);
    let wait = asyncness.map(|token| quote_spanned!(token.span=> .await));
    let result = call_of_body(task, &quote!(&::callboard::TaskContext::here()));
    let no_lints = no_lints();
    quote! {
        impl #name {
            /// Runs the function here, now.
            #no_lints
            #(#of_call)*
            #visibility #asyncness fn call(self) #output {
                #result #wait
            }

            // What these would have the author change is not theirs to change: a task owns its arguments, is
            // no `const fn`, and may be called `new`.
            #[allow(clippy::needless_pass_by_value, clippy::missing_const_for_fn, clippy::new_ret_no_self)]
            #[doc(hidden)]
            #(#of_body)*
            #signature_of_body #body
        }
    }
}

/// Writes the call of the author's code, with the arguments moved out of `self`.
pub(super) fn call_of_body(task: &Task, context: &TokenStream) -> TokenStream {
    let body = name_of_body(task);
    let context = task.takes_context.then(|| context.clone());
    let fields = task.arguments.iter().map(|argument| {
        let name = &argument.name;
        quote!(self.#name)
    });
    let parameters = context.into_iter().chain(fields);
    quote!(Self::#body(#(#parameters),*))
}

/// Returns the name of the function that holds the author's code: that of the task, for stack traces and
/// `#[instrument]`. An associated function hides nothing from the code inside it.
fn name_of_body(task: &Task) -> Ident {
    let name = &task.signature.ident;
    if name == "call" { format_ident!("call_", span = name.span()) } else { name.clone() }
}
