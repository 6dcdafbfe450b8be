//! How the arguments are copied for another attempt, and how they travel: `Clone`, `Serialize`, `Deserialize`.
//!
//! These are what `derive` would write for the struct. But derived for the struct, an argument that cannot be
//! encoded would be five errors, some of them at the attribute. Derived for a helper whose fields may have any
//! type it is one error for each trait, shown at the arguments.

use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::{Ident, Type};

use super::{ends, no_lints};
use crate::task::Task;

/// Writes the three implementations.
pub(super) fn clone_and_serde(task: &Task) -> TokenStream {
    let name = &task.signature.ident;
    let names: Vec<&Ident> = task.arguments.iter().map(|argument| &argument.name).collect();
    let types: Vec<&Type> = task.arguments.iter().map(|argument| &argument.ty).collect();
    let helper = helper(task, &names);
    let (first, last) = ends(quote!(#(#types),*));
    // Only the first and the last token need the place of the types, for all in between to be shown there.
    let open = quote_spanned!(first=> <__Arguments<);
    let serialize = quote_spanned!(last=> > as ::callboard::__private::serde::Serialize>::serialize);
    let deserialize = quote_spanned!(last=> > as ::callboard::__private::serde::Deserialize>::deserialize);
    let no_lints = no_lints();
    quote! {
        #helper

        #no_lints
        impl ::core::clone::Clone for #name {
            fn clone(&self) -> Self {
                Self { #(#names: <#types as ::core::clone::Clone>::clone(&self.#names)),* }
            }
        }

        impl ::callboard::__private::serde::Serialize for #name {
            fn serialize<__S: ::callboard::__private::serde::Serializer>(
                &self,
                serializer: __S,
            ) -> ::core::result::Result<__S::Ok, __S::Error> {
                let arguments = __Arguments { #(#names: &self.#names),* };
                #open #(&#types),* #serialize(&arguments, serializer)
            }
        }

        impl<'de> ::callboard::__private::serde::Deserialize<'de> for #name {
            fn deserialize<__D: ::callboard::__private::serde::Deserializer<'de>>(
                deserializer: __D,
            ) -> ::core::result::Result<Self, __D::Error> {
                let arguments = #open #(#types),* #deserialize(deserializer)?;
                ::core::result::Result::Ok(Self { #(#names: arguments.#names),* })
            }
        }
    }
}

/// Writes a struct with the same fields, of any types.
fn helper(task: &Task, names: &[&Ident]) -> TokenStream {
    let name = task.signature.ident.unraw().to_string();
    let types: Vec<Ident> = (0..names.len()).map(|position| format_ident!("T{position}")).collect();
    let no_lints = no_lints();
    quote! {
        #no_lints
        #[derive(::callboard::__private::serde::Serialize, ::callboard::__private::serde::Deserialize)]
        #[serde(crate = "::callboard::__private::serde", rename = #name)]
        struct __Arguments<#(#types),*> {
            #(#names: #types,)*
        }
    }
}
