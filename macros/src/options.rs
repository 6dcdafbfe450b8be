//! What stands in the parentheses of `#[task(..)]`.

use proc_macro2::TokenStream;
use syn::ext::IdentExt;
use syn::parse::{ParseStream, Parser};
use syn::{Error, Expr, Ident, Lit, LitInt, LitStr, Result, Token};

/// What a message tells of the options that there are.
const KNOWN: &str = "`#[task]` knows `name = \"..\"`, `version = 2` and `idempotent`";

/// The options of one task.
#[derive(Default)]
pub(crate) struct Options {
    /// The name that the author pinned.
    pub(crate) name: Option<LitStr>,
    /// The version, if it is not the first.
    pub(crate) version: Option<u32>,
    /// Whether running it twice is as good as running it once.
    pub(crate) is_idempotent: bool,
}

impl Options {
    /// Reads the options. Those before an error count, the others are as if they had not been written.
    pub(crate) fn read(tokens: TokenStream) -> (Self, Result<()>) {
        let mut options = Self::default();
        let read = (|input: ParseStream<'_>| options.read_all(input)).parse2(tokens);
        (options, read)
    }

    fn read_all(&mut self, input: ParseStream<'_>) -> Result<()> {
        while !input.is_empty() {
            self.read_one(input)?;
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(())
    }

    fn read_one(&mut self, input: ParseStream<'_>) -> Result<()> {
        let option = Ident::parse_any(input).map_err(|error| Error::new(error.span(), KNOWN))?;
        let is_first = match option.to_string().as_str() {
            "name" => self.name.replace(name(&option, input)?).is_none(),
            "version" => self.version.replace(version(&option, input)?).is_none(),
            "idempotent" => !std::mem::replace(&mut self.is_idempotent, idempotent(&option, input)?),
            unknown => return Err(Error::new_spanned(option, format!("`{unknown}` is no option of a task: {KNOWN}"))),
        };
        if is_first { Ok(()) } else { Err(Error::new_spanned(&option, format!("`{option}` is written twice"))) }
    }
}

fn name(option: &Ident, input: ParseStream<'_>) -> Result<LitStr> {
    let value = value(option, input, "name = \"my_crate::my_task\"")?;
    match literal(&value) {
        Some(Lit::Str(name)) if !name.value().is_empty() => Ok(name.clone()),
        Some(Lit::Str(_)) => Err(Error::new_spanned(value, "the name of a task has at least one character")),
        _ => Err(Error::new_spanned(value, "the name of a task is a string: write `name = \"my_crate::my_task\"`")),
    }
}

fn version(option: &Ident, input: ParseStream<'_>) -> Result<u32> {
    let value = value(option, input, "version = 2")?;
    let number = match literal(&value) {
        Some(Lit::Int(number)) => LitInt::base10_parse(number).ok(),
        _ => None,
    };
    let wrong = || format!("the version of a task is a whole number from 0 to {}: write `version = 2`", u32::MAX);
    number.ok_or_else(|| Error::new_spanned(value, wrong()))
}

fn idempotent(option: &Ident, input: ParseStream<'_>) -> Result<bool> {
    if input.peek(Token![=]) {
        return Err(Error::new_spanned(
            option,
            "`idempotent` has no value: write it alone, or leave it out if the task may not run twice",
        ));
    }
    Ok(true)
}

/// Reads the `=` of an option, and what stands behind it.
fn value(option: &Ident, input: ParseStream<'_>, example: &str) -> Result<Expr> {
    if !input.peek(Token![=]) {
        return Err(Error::new_spanned(option, format!("`{option}` has a value: write `{example}`")));
    }
    input.parse::<Token![=]>()?;
    input.parse()
}

fn literal(value: &Expr) -> Option<&Lit> {
    match value {
        Expr::Lit(literal) => Some(&literal.lit),
        // A literal that a `macro_rules` macro was given comes in an invisible group.
        Expr::Group(group) => literal(&group.expr),
        _ => None,
    }
}
