//! The checkers: they see the nodes' tables, the role words that workers see, what the network carried and
//! what was forwarded, and what a node tells its operator. Nothing of what the protocol believes.

mod forwarding;
mod kept;
mod lineage;
mod merged;
mod twin;

pub use forwarding::{Forwarding, Span};
pub use kept::{HALF_OPEN_STATE, Kept, LOCAL_RULE, YOUNG_RULE};
pub use lineage::Lineage;
pub use merged::{Heard, Merged};
pub use twin::{Twin, same_tables};

/// What was seen that must not be.
pub type Verdict = Result<(), String>;
