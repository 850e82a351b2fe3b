//! The attribute `#[wabbit_sdk::handler]`. It needs no more of a function than its name, and so no parser.

use proc_macro::{Delimiter, Group, Ident, Literal, Punct, Spacing, Span, TokenStream, TokenTree};

/// Makes a function the handler that the plugin exports.
///
/// It takes a `Delivery` and returns an `Outcome` or a `Result<Outcome, E>`, where `E` is `wabbit_sdk::Error` or anything
/// that can be displayed. The function itself stays as it is: tests call it like any other.
///
/// A plugin has one handler.
#[proc_macro_attribute]
pub fn handler(attribute: TokenStream, item: TokenStream) -> TokenStream {
    if let Some(token) = attribute.into_iter().next() {
        return call("core::compile_error", token.span(), text("`#[handler]` takes no arguments"));
    }
    let Some(name) = function_name(item.clone()) else {
        return call("core::compile_error", Span::call_site(), text("`#[handler]` goes before a function"));
    };
    let mut output = item;
    output.extend(call("wabbit_sdk::export_handler", name.span(), TokenTree::Ident(name)));
    output
}

/// The name after the first `fn` outside brackets: a function has no other `fn` before it.
fn function_name(item: TokenStream) -> Option<Ident> {
    let mut tokens = item.into_iter();
    tokens.find(|token| matches!(token, TokenTree::Ident(word) if word.to_string() == "fn"))?;
    match tokens.next()? {
        TokenTree::Ident(name) => Some(name),
        _ => None,
    }
}

/// The tokens of `::CRATE::NAME! { argument }`.
fn call(path: &str, span: Span, argument: TokenTree) -> TokenStream {
    let mut tokens = Vec::new();
    for segment in path.split("::") {
        tokens.push(TokenTree::Punct(Punct::new(':', Spacing::Joint)));
        tokens.push(TokenTree::Punct(Punct::new(':', Spacing::Alone)));
        tokens.push(TokenTree::Ident(Ident::new(segment, Span::call_site())));
    }
    tokens.push(TokenTree::Punct(Punct::new('!', Spacing::Alone)));
    tokens.push(TokenTree::Group(Group::new(Delimiter::Brace, argument.into())));
    for token in &mut tokens {
        token.set_span(span);
    }
    tokens.into_iter().collect()
}

fn text(message: &str) -> TokenTree {
    TokenTree::Literal(Literal::string(message))
}
