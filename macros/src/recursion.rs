//! A task that calls its own name does not recurse: it builds another task, and forgets to run it.
//!
//! The compiler would report a wrong type somewhere behind the call. So the call itself is reported, with what
//! to write instead, unless the task it builds is plainly wanted: `view.apply(name(..))`, `name(..).call()`.

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::visit::{self, Visit};
use syn::visit_mut::{self, VisitMut};
use syn::{
    Block, Expr, ExprMethodCall, FnArg, Ident, ItemFn, PatIdent, Result, Signature, UseName, UseRename, parse_quote,
};

use crate::function::Function;
use crate::problems::Problems;

/// Looks for calls of the task's own name.
///
/// # Errors
/// Each of them. They are mended in the body, by `.call()`, so that they bring no errors of type.
pub(crate) fn mend(function: &mut Function) -> Result<()> {
    let own_name = &function.signature.ident;
    let body = TokenStream::from(TokenTree::Group(function.body.clone()));
    // A body that cannot be read here is one that the compiler has something to say about.
    let Ok(mut block) = syn::parse2::<Block>(body) else { return Ok(()) };
    if means_something_else(own_name, &function.signature, &block) {
        return Ok(());
    }
    let call = if function.signature.asyncness.is_some() { "call().await" } else { "call()" };
    let mut search = Search { own_name, call, problems: Problems::default() };
    search.visit_block_mut(&mut block);
    let found = search.problems.into_result();
    if let (Err(_), Ok(mended)) = (&found, syn::parse2(block.into_token_stream())) {
        function.body = mended;
    }
    found
}

/// Returns whether something inside the function, a local `fn` perhaps, has taken the name.
fn means_something_else(name: &Ident, signature: &Signature, block: &Block) -> bool {
    let mut definitions = Definitions { name, found: false };
    signature.inputs.iter().for_each(|parameter: &FnArg| definitions.visit_fn_arg(parameter));
    definitions.visit_block(block);
    definitions.found
}

struct Definitions<'n> {
    name: &'n Ident,
    found: bool,
}

impl<'ast> Visit<'ast> for Definitions<'_> {
    fn visit_item_fn(&mut self, function: &'ast ItemFn) {
        self.found |= function.sig.ident == *self.name;
        visit::visit_item_fn(self, function);
    }

    fn visit_pat_ident(&mut self, pattern: &'ast PatIdent) {
        self.found |= pattern.ident == *self.name;
        visit::visit_pat_ident(self, pattern);
    }

    fn visit_use_name(&mut self, import: &'ast UseName) {
        self.found |= import.ident == *self.name;
    }

    fn visit_use_rename(&mut self, import: &'ast UseRename) {
        self.found |= import.rename == *self.name;
    }
}

struct Search<'n> {
    own_name: &'n Ident,
    /// How the task is called here.
    call: &'static str,
    problems: Problems,
}

impl VisitMut for Search<'_> {
    fn visit_expr_mut(&mut self, expression: &mut Expr) {
        if self.builds_itself(expression) {
            self.report(expression);
            visit_mut::visit_expr_mut(self, expression);
            *expression = parse_quote!(#expression.call());
        } else {
            visit_mut::visit_expr_mut(self, expression);
        }
    }

    fn visit_expr_method_call_mut(&mut self, method: &mut ExprMethodCall) {
        self.visit_where_a_task_may_stand(&mut method.receiver);
        method.args.iter_mut().for_each(|argument| self.visit_where_a_task_may_stand(argument));
    }
}

impl Search<'_> {
    /// Visits the receiver or an argument of a method: it may be a task, or a closure that builds one.
    fn visit_where_a_task_may_stand(&mut self, expression: &mut Expr) {
        match expression {
            Expr::Closure(closure) => self.visit_where_a_task_may_stand(&mut closure.body),
            task if self.builds_itself(task) => visit_mut::visit_expr_mut(self, task),
            other => self.visit_expr_mut(other),
        }
    }

    fn builds_itself(&self, expression: &Expr) -> bool {
        match expression {
            Expr::Call(call) => matches!(&*call.func, Expr::Path(path) if path.path.is_ident(self.own_name)),
            _ => false,
        }
    }

    fn report(&mut self, call: &Expr) {
        let message = format!(
            "inside the task its own name builds another task: put the recursion into a plain function and call that \
             from here, or write `{}(..).{}`",
            self.own_name, self.call
        );
        self.problems.note(call, message);
    }
}
