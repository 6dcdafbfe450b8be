//! The function under `#[task]`, as it was written.

use proc_macro2::Group;
use syn::parse::{Parse, ParseStream};
use syn::{Attribute, Error, Result, Signature, Token, Visibility};

/// A free function.
///
/// The body stays tokens: what it may contain is for the compiler to say, and a half-written body in an
/// editor still makes a task.
pub(crate) struct Function {
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) visibility: Visibility,
    pub(crate) signature: Signature,
    pub(crate) body: Group,
}

impl Parse for Function {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let attributes = input.call(Attribute::parse_outer)?;
        let visibility = input.parse()?;
        if input.fork().parse::<Signature>().is_err() {
            return Err(input.error(where_it_goes(input)));
        }
        let signature: Signature = input.parse()?;
        if input.peek(Token![;]) {
            return Err(Error::new_spanned(
                signature,
                "a task has a body, which is what an engine runs: write `#[task]` on a free function",
            ));
        }
        Ok(Self { attributes, visibility, signature, body: input.parse()? })
    }
}

fn where_it_goes(input: ParseStream<'_>) -> &'static str {
    if input.peek(Token![struct]) || input.peek(Token![enum]) {
        "`#[task]` goes on a free function: to make a task of a type, write `impl callboard::Task` for it and \
         `callboard::register_task!(..)`"
    } else {
        "`#[task]` goes on a free function"
    }
}
