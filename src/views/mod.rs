//! What a program asks: each view is the address of a scheduler and a choice of engines.

mod engine;
mod direct;
mod load_balanced;
mod namespace;
mod selection;
mod with;
mod link;
mod aim;

pub use aim::ExecutorView;
pub use direct::DirectView;
pub use engine::EngineView;
pub(crate) use link::{Identified, Link, LinkParts, weight_of};
pub use load_balanced::LoadBalancedView;
pub(crate) use selection::find;
pub use selection::{Selection, every_nth};
pub use with::With;
