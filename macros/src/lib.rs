//! The `#[task]` attribute of callboard.
use proc_macro::TokenStream;
/// placeholder
#[proc_macro_attribute]
pub fn task(_: TokenStream, item: TokenStream) -> TokenStream {
    item
}
