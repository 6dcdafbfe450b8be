//! A type as text that is the same with every compiler.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use quote::ToTokens;

/// Writes tokens with the fewest spaces that keep them apart, and one after `,` and `;`.
///
/// The text becomes part of the fingerprint, which two programs compare. `TokenStream::to_string` would not
/// do: where it puts spaces differs between compilers, and with how the author put them.
pub(crate) fn written(tokens: impl ToTokens) -> String {
    let mut text = String::new();
    write(tokens.to_token_stream(), &mut text);
    text.truncate(text.trim_end().len());
    text
}

fn write(tokens: TokenStream, text: &mut String) {
    for token in tokens {
        match token {
            TokenTree::Group(group) => {
                let (open, close) = brackets(group.delimiter());
                text.push_str(open);
                write(group.stream(), text);
                text.truncate(text.trim_end().len());
                text.push_str(close);
            }
            TokenTree::Punct(punct) => {
                text.push(punct.as_char());
                if matches!(punct.as_char(), ',' | ';') {
                    text.push(' ');
                }
            }
            TokenTree::Ident(ident) => write_word(&ident.to_string(), text),
            TokenTree::Literal(literal) => write_word(&literal.to_string(), text),
        }
    }
}

/// Writes a name or a literal, with a space after another one: `dyn Error`, `impl Fn`.
fn write_word(word: &str, text: &mut String) {
    if text.ends_with(|last: char| last.is_alphanumeric() || last == '_') {
        text.push(' ');
    }
    text.push_str(word);
}

fn brackets(delimiter: Delimiter) -> (&'static str, &'static str) {
    match delimiter {
        Delimiter::Parenthesis => ("(", ")"),
        Delimiter::Bracket => ("[", "]"),
        Delimiter::Brace => ("{", "}"),
        // What a `macro_rules` macro was given comes in an invisible group.
        Delimiter::None => ("", ""),
    }
}

#[cfg(test)]
mod tests {
    use super::written;

    #[test]
    fn spaces_of_the_author_do_not_matter() {
        #[track_caller]
        fn check(source: &str, expected: &str) {
            let tokens: proc_macro2::TokenStream = source.parse().expect("the test's tokens are Rust");
            assert_eq!(written(tokens), expected);
        }
        check("Vec < u8 >", "Vec<u8>");
        check("Vec<u8>", "Vec<u8>");
        check("HashMap<String,Vec<(f64,f64)>>", "HashMap<String, Vec<(f64, f64)>>");
        check("[u8 ;16]", "[u8; 16]");
        check("Box<dyn Error+Send>", "Box<dyn Error+Send>");
        check("Box < dyn   Error + Send >", "Box<dyn Error+Send>");
        check("Cow<'static,str>", "Cow<'static, str>");
        check("std :: io :: Result < () >", "std::io::Result<()>");
        check("(u8,)", "(u8,)");
        check("&'a mut T", "&'a mut T");
    }
}
