//! Redis: soft state that several gateways share. Nothing here is ever the only copy of anything,
//! and nothing waits for it.

mod directory;
#[cfg(feature = "testing")]
pub mod testing;

pub use directory::{
    BATCH_MAX, Directory, DirectoryError, Generation, Lease, Link, Place, Presence, ServerFacts,
    check_url,
};
