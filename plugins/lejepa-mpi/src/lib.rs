//! Data-parallel training over MPI: `mpirun -np 4 lejepa train ...`.
//!
//! The feature `mpi` links an MPI library, whose headers and `mpicc` have to be there (Debian: `libopenmpi-dev`).
//! Without it this crate is empty.
//!
//! ```no_run
//! # #[cfg(feature = "mpi")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use lejepa_train::Group;
//!
//! let world = lejepa_mpi::World::join()?;
//! let group = world.group();
//! println!("worker {} of {}", group.rank(), group.size());
//! // `Trainer::group(group)` divides each step among them.
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "mpi"))]
//! # fn main() {}
//! ```

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used))]

#[cfg(feature = "mpi")]
mod world;

#[cfg(feature = "mpi")]
pub use world::World;
