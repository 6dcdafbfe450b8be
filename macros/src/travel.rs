//! What keeps a type from travelling, and what to write instead.

use syn::visit::{self, Visit};
use syn::{Lifetime, Path, Type, TypeFnPtr, TypeImplTrait, TypeNever, TypeReference};

use crate::problems::Problems;
use crate::task::{is_last_segment, without_groups};
use crate::written::written;

/// Which way a value goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// An argument, to the engine.
    There,
    /// A value, to the caller.
    Back,
    /// An error, to the caller, as its text.
    AsText,
}

/// Notes everything in a type that keeps it from travelling.
pub(crate) fn check_travels(ty: &Type, direction: Direction, problems: &mut Problems) {
    Traveller { direction, problems }.visit_type(ty);
}

/// Looks for what cannot travel, anywhere in a type.
struct Traveller<'p> {
    direction: Direction,
    problems: &'p mut Problems,
}

impl<'ast> Visit<'ast> for Traveller<'_> {
    fn visit_type_reference(&mut self, reference: &'ast TypeReference) {
        if self.direction == Direction::AsText && reference.lifetime.as_ref().is_some_and(is_static) {
            return;
        }
        let (borrowed, owned) = (written(reference), owned(&reference.elem));
        let message = match self.direction {
            Direction::There if reference.mutability.is_some() => {
                format!("a task works on its own copy of its arguments: take {owned} and return the changed value")
            }
            Direction::There => format!(
                "a task owns its arguments, because they travel to an engine: write {owned} instead of `{borrowed}`"
            ),
            Direction::Back | Direction::AsText => format!(
                "a task gives away what it returns, because it travels to the caller: write {owned} instead of \
                 `{borrowed}`"
            ),
        };
        self.problems.note(reference, message);
    }

    fn visit_type_impl_trait(&mut self, hidden: &'ast TypeImplTrait) {
        let what = if self.direction == Direction::There { "takes" } else { "returns" };
        self.problems.note(
            hidden,
            format!(
                "what a task {what} is encoded as one type, which both sides know: write that type instead of `impl ..`"
            ),
        );
    }

    fn visit_lifetime(&mut self, lifetime: &'ast Lifetime) {
        if !is_static(lifetime) {
            self.problems.note(
                lifetime,
                format!(
                    "a task's arguments and result travel, so they cannot borrow: write a type without `{lifetime}`"
                ),
            );
        }
    }

    fn visit_type_never(&mut self, never: &'ast TypeNever) {
        self.problems.note(never, "a task settles when it returns: return `()`, or nothing");
    }

    fn visit_path(&mut self, path: &'ast Path) {
        if path.segments.first().is_some_and(|segment| segment.ident == "Self") {
            self.problems.note(
                path,
                "a task is a free function: move it out of the `impl`, and write the name of the type instead of `Self`",
            );
        }
        visit::visit_path(self, path);
    }

    fn visit_type_fn_ptr(&mut self, _: &'ast TypeFnPtr) {
        // What it takes does not travel; that the pointer itself cannot either is for serde to say.
    }
}

fn is_static(lifetime: &Lifetime) -> bool {
    lifetime.ident == "static"
}

/// Returns what to write for a type that owns what a reference to `borrowed` would lend.
fn owned(borrowed: &Type) -> String {
    let ty = match without_groups(borrowed) {
        Type::Reference(reference) => return owned(&reference.elem),
        Type::TraitObject(_) | Type::ImplTrait(_) => return "a type of its own".into(),
        Type::Slice(slice) => format!("Vec<{}>", written(&slice.elem)),
        ty if is_last_segment(ty, "str") => "String".into(),
        ty if is_last_segment(ty, "Path") => "PathBuf".into(),
        ty if is_last_segment(ty, "OsStr") => "OsString".into(),
        ty if is_last_segment(ty, "CStr") => "CString".into(),
        ty => written(ty),
    };
    format!("`{ty}`")
}
