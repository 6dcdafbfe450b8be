//! `impl Task`: what an engine knows of the task, and how it runs it.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::ext::IdentExt;
use syn::{Ident, ReturnType};

use super::body::call_of_body;
use super::{ends, no_lints};
use crate::task::Task;

/// Writes the implementation of the trait.
pub(super) fn task(task: &Task) -> TokenStream {
    let name = &task.signature.ident;
    let full_name = full_name(task);
    let version = task.options.version.unwrap_or(1);
    let is_idempotent = task.options.is_idempotent;
    let types = task.types_as_written();
    let output = output(task);
    let run = run(task);
    let size_hint = size_hint(task);
    let header = quote_spanned!(name.span()=> impl ::callboard::Task for #name);
    let no_lints = no_lints();
    quote! {
        #no_lints
        #header {
            type Output = #output;
            const NAME: &'static ::core::primitive::str = #full_name;
            const VERSION: ::core::primitive::u32 = #version;
            const SIGNATURE: &'static ::core::primitive::str = #types;
            const IDEMPOTENT: ::core::primitive::bool = #is_idempotent;
            #run
            #size_hint
        }
    }
}

fn full_name(task: &Task) -> TokenStream {
    match &task.options.name {
        Some(name) => quote!(#name),
        None => {
            let name = task.signature.ident.unraw().to_string();
            quote!(::core::concat!(::core::module_path!(), "::", #name))
        }
    }
}

fn output(task: &Task) -> TokenStream {
    of_result(task, "Ok").unwrap_or_else(|| task.output())
}

/// Writes an item of `ResultLike`, if the return type is one that may fail: the compiler finds the type of
/// success behind any alias of `Result`.
fn of_result(task: &Task, item: &str) -> Option<TokenStream> {
    let ReturnType::Type(_, ty) = &task.signature.output else { return None };
    let (first, last) = ends(ty);
    let open = quote_spanned!(first=> <);
    let item = Ident::new(item, last);
    let close = quote_spanned!(last=> as ::callboard::__private::ResultLike>::#item);
    task.may_fail().then(|| quote!(#open #ty #close))
}

fn run(task: &Task) -> TokenStream {
    let mut value = call_of_body(task, &quote!(cx));
    if task.signature.asyncness.is_some() {
        value = quote!(::callboard::__private::block_on(cx, #value)?);
    }
    let result = of_result(task, "into_task_result").unwrap_or_else(|| quote!(::core::result::Result::Ok));
    // The compiler checks the method anew. What it finds it found before, and says it once if the place is the same.
    let (first, last) = if task.may_fail() { ends(task.output()) } else { ends(&task.signature.ident) };
    let fn_run = quote_spanned!(first=> fn run);
    let returned = quote_spanned!(first=> ::core::result::Result<Self::Output, ::callboard::TaskFailure);
    let body = quote_spanned!(last=> > { #result(#value) });
    quote! {
        #[allow(unused_variables)]
        #fn_run(self, cx: &::callboard::TaskContext) -> #returned #body
    }
}

fn size_hint(task: &Task) -> TokenStream {
    if task.arguments.is_empty() {
        return TokenStream::new();
    }
    let names = task.arguments.iter().map(|argument| &argument.name);
    quote! {
        fn size_hint(&self) -> ::core::primitive::usize {
            // Answers for the types that `HeapBytes` does not know itself; there may be none.
            #[allow(unused_imports)]
            use ::callboard::__private::UnknownHeapBytes as _;
            ::core::mem::size_of_val(self)
                #(+ ::callboard::__private::HeapBytes(&self.#names).heap_bytes())*
        }
    }
}
