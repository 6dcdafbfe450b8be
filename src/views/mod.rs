//! What a program asks: each view is the address of a scheduler and a choice of engines.

mod engine;
mod direct;
mod load_balanced;
mod namespace;
mod with;
mod link;

pub use direct::DirectView;
pub use engine::EngineView;
pub(crate) use link::{Identified, Link, LinkParts};
pub use load_balanced::LoadBalancedView;
pub use with::With;
