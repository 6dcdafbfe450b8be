//! Which of a function's other attributes go where.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::Attribute;

/// The attributes of one function, sorted by the item that they end on.
#[derive(Default)]
pub(crate) struct Attributes {
    /// On every item: `#[cfg]`, and the lints that are allowed.
    pub(crate) everywhere: Vec<Conditional>,
    /// On the function that builds the task: its documentation.
    pub(crate) constructor: Vec<Conditional>,
    /// On the struct: that it is hidden, if the function is.
    pub(crate) structure: Vec<Conditional>,
    /// On the method `call`, which returns what the function returned: `#[must_use]`.
    pub(crate) call: Vec<Conditional>,
    /// On the code that runs: everything else, `#[inline]` and `#[instrument]` among it.
    pub(crate) body: Vec<Conditional>,
}

/// What stands in the brackets of an attribute, and the conditions of the `cfg_attr` around it.
#[derive(Clone)]
pub(crate) struct Conditional {
    conditions: Vec<TokenStream>,
    content: TokenStream,
}

impl Attributes {
    /// Sorts the attributes of a function.
    pub(crate) fn sort(attributes: Vec<Attribute>) -> Self {
        let mut sorted = Self::default();
        for attribute in attributes {
            let parts = Conditional::all_in(Vec::new(), attribute.meta.into_token_stream());
            parts.into_iter().for_each(|part| sorted.add(part));
        }
        sorted
    }

    fn add(&mut self, attribute: Conditional) {
        match attribute.name().as_str() {
            "cfg" | "allow" => self.everywhere.push(attribute),
            // An expectation can be met in one place only, and which of the items that is depends on the lint.
            "expect" => self.everywhere.push(attribute.renamed("allow")),
            "doc" if attribute.hides() => {
                self.structure.push(attribute.clone());
                self.constructor.push(attribute);
            }
            "doc" | "deprecated" => self.constructor.push(attribute),
            "must_use" => self.call.push(attribute),
            _ => self.body.push(attribute),
        }
    }
}

impl Conditional {
    /// Takes `cfg_attr(condition, a, b)` apart, because `a` and `b` may go to different items.
    fn all_in(conditions: Vec<TokenStream>, content: TokenStream) -> Vec<Self> {
        let whole = Self { conditions, content };
        let parts = match whole.arguments() {
            Some(arguments) if whole.name() == "cfg_attr" => split_at_commas(arguments),
            _ => return vec![whole],
        };
        let mut parts = parts.into_iter();
        let conditions: Vec<TokenStream> = whole.conditions.into_iter().chain(parts.next()).collect();
        parts.flat_map(|part| Self::all_in(conditions.clone(), part)).collect()
    }

    /// Returns the name of the attribute; that of `#[tracing::instrument]` is `tracing`, which is none of ours.
    fn name(&self) -> String {
        match self.content.clone().into_iter().next() {
            Some(TokenTree::Ident(name)) => name.to_string(),
            _ => String::new(),
        }
    }

    /// Returns what stands in the parentheses behind the name.
    fn arguments(&self) -> Option<TokenStream> {
        match self.content.clone().into_iter().nth(1) {
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Parenthesis => Some(group.stream()),
            _ => None,
        }
    }

    fn hides(&self) -> bool {
        self.arguments().is_some_and(|arguments| arguments.to_string() == "hidden")
    }

    fn renamed(mut self, name: &str) -> Self {
        let name = syn::Ident::new(name, proc_macro2::Span::call_site());
        let rest = self.content.into_iter().skip(1);
        self.content = quote!(#name #(#rest)*);
        self
    }
}

impl ToTokens for Conditional {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        let Self { conditions, content } = self;
        tokens.extend(match conditions.as_slice() {
            [] => quote!(#[#content]),
            conditions => quote!(#[cfg_attr(all(#(#conditions),*), #content)]),
        });
    }
}

fn split_at_commas(tokens: TokenStream) -> Vec<TokenStream> {
    let mut parts = vec![TokenStream::new()];
    for token in tokens {
        match (&token, parts.last_mut()) {
            (TokenTree::Punct(punct), _) if punct.as_char() == ',' => parts.push(TokenStream::new()),
            (_, Some(part)) => part.extend([token]),
            (_, None) => {}
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
}

#[cfg(test)]
mod tests {
    use super::{Attributes, Conditional};
    use quote::ToTokens;
    use syn::parse_quote;

    #[track_caller]
    fn check(place: &[Conditional], expected: &[&str]) {
        let place: Vec<String> = place.iter().map(|attribute| attribute.to_token_stream().to_string()).collect();
        assert_eq!(place, expected);
    }

    #[test]
    fn each_attribute_goes_to_the_item_it_is_about() {
        let sorted = Attributes::sort(vec![
            parse_quote!(#[doc = "Text."]),
            parse_quote!(#[cfg(unix)]),
            parse_quote!(#[expect(dead_code, reason = "none")]),
            parse_quote!(#[deprecated]),
            parse_quote!(#[must_use]),
            parse_quote!(#[inline]),
            parse_quote!(#[tracing::instrument(skip(n))]),
            parse_quote!(#[doc(hidden)]),
        ]);
        check(&sorted.everywhere, &["# [cfg (unix)]", "# [allow (dead_code , reason = \"none\")]"]);
        check(&sorted.constructor, &["# [doc = \"Text.\"]", "# [deprecated]", "# [doc (hidden)]"]);
        check(&sorted.structure, &["# [doc (hidden)]"]);
        check(&sorted.call, &["# [must_use]"]);
        check(&sorted.body, &["# [inline]", "# [tracing :: instrument (skip (n))]"]);
    }

    #[test]
    fn what_a_cfg_attr_holds_goes_where_it_would_go_alone() {
        let sorted = Attributes::sort(vec![parse_quote!(#[cfg_attr(a, inline, cfg_attr(b, doc = "Text.", cfg(c)),)])]);
        check(&sorted.body, &["# [cfg_attr (all (a) , inline)]"]);
        check(&sorted.constructor, &["# [cfg_attr (all (a , b) , doc = \"Text.\")]"]);
        check(&sorted.everywhere, &["# [cfg_attr (all (a , b) , cfg (c))]"]);
    }
}
